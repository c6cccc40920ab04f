//! The load generator's reading and writing of frames as an echoing client, for test suites that
//! judge clients: `client URL AGENT` runs every case that the Autobahn fuzzing server offers.

use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use ringwire::bench::client::{
    Fault, Handshake, Incoming, Offer, Partial, Target, append_frame, read,
};
use ringwire::wire::close::ClosePayload;
use ringwire::wire::header::OpCode;
use socket2::{Socket, Type};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [server, agent] = &arguments[..] else {
        eprintln!("usage: client ws://HOST:PORT AGENT");
        return ExitCode::from(2);
    };
    match run(server, agent) {
        Ok(cases) => {
            println!("{cases} cases");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("client: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(server: &str, agent: &str) -> Result<u32, Fault> {
    let mut count = String::new();
    Connection::open(&format!("{server}/getCaseCount"))?.serve(|_, payload| {
        count = String::from_utf8_lossy(payload).into_owned();
        None
    })?;
    let unreadable = |_| Fault::Handshake(format!("{count:?} is no number of cases"));
    let cases = count.parse().map_err(unreadable)?;
    for case in 1..=cases {
        let url = format!("{server}/runCase?case={case}&agent={agent}");
        let echo = |opcode, payload: &[u8]| Some((opcode, payload.to_vec()));
        if let Err(fault) = Connection::open(&url)?.serve(echo) {
            // Most cases are such faults; whether this is one is for the server to say.
            println!("case {case}: {fault}");
        }
    }
    Connection::open(&format!("{server}/updateReports?agent={agent}"))?.serve(|_, _| None)?;
    Ok(cases)
}

/// An open WebSocket.
struct Connection {
    socket: Socket,
    partial: Option<Box<Partial>>,
    /// Received and not looked at yet.
    input: Vec<u8>,
}

impl Connection {
    fn open(url: &str) -> Result<Self, Fault> {
        let target: Target = url.parse().map_err(Fault::Handshake)?;
        let addresses = target.endpoint.addresses().map_err(Fault::Handshake)?;
        let address = &addresses[0];
        let socket = Socket::new(address.domain(), Type::STREAM, None).map_err(io)?;
        socket.connect(address).map_err(io)?;
        socket.set_read_timeout(Some(SILENCE_MOST)).map_err(io)?;
        let handshake = Handshake::new(&target, 1, Offer::default(), 0);
        let mut connection = Self { socket, partial: None, input: Vec::new() };
        connection.socket.write_all(handshake.request(0)).map_err(io)?;
        loop {
            connection.receive()?;
            if let Some(length) = handshake.check(&connection.input)? {
                connection.input.drain(..length);
                return Ok(connection);
            }
        }
    }

    /// Appends what comes next.
    fn receive(&mut self) -> Result<(), Fault> {
        let mut buffer = [0; RECEIVE_BYTES];
        match self.socket.read(&mut buffer) {
            Ok(0) => Err(Fault::EndOfStream),
            Ok(bytes) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                Ok(())
            }
            // A process that was stopped and continued (signal(7)) waits on.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(io(error)),
        }
    }

    /// Sends what `answer` makes of each message until the server closes, and tells the server what
    /// it did wrong.
    fn serve(mut self, mut answer: impl FnMut(OpCode, &[u8]) -> Answer) -> Result<(), Fault> {
        let served = loop {
            match self.take(&mut answer) {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(fault) => break Err(fault),
            }
            if let Err(fault) = self.receive() {
                break Err(fault);
            }
        };
        if let Err(Fault::Violation(violation)) = &served {
            self.send(OpCode::Close, &violation.close_code().0.to_be_bytes())?;
        }
        // The server ends the stream (RFC 6455 section 7.1.1).
        while self.receive().is_ok() {
            self.input.clear();
        }
        served
    }

    /// Takes what has been received; whether that closed the connection.
    fn take(&mut self, answer: &mut impl FnMut(OpCode, &[u8]) -> Answer) -> Result<bool, Fault> {
        let (input, mut partial) = (std::mem::take(&mut self.input), self.partial.take());
        let mut is_closed = false;
        let result = read(&input, 0, &mut partial, |incoming| match incoming {
            _ if is_closed => Ok(()),
            Incoming::Message(opcode, payload) => match answer(opcode, payload) {
                Some((opcode, payload)) => self.send(opcode, &payload),
                None => Ok(()),
            },
            Incoming::Ping(payload) => self.send(OpCode::Pong, payload),
            Incoming::Pong => Ok(()),
            Incoming::Compressed(..) => unreachable!("no bit of an extension is let in"),
            Incoming::Close(payload) => {
                let close = ClosePayload::parse(payload)?;
                is_closed = true;
                let code = close.code.map(|code| code.0.to_be_bytes());
                self.send(OpCode::Close, code.as_ref().map_or(&[], |code| code))
            }
        });
        self.partial = partial;
        result.map(|()| is_closed)
    }

    fn send(&self, opcode: OpCode, payload: &[u8]) -> Result<(), Fault> {
        let mut frame = Vec::new();
        append_frame(&mut frame, opcode, payload);
        (&self.socket).write_all(&frame).map_err(io)
    }
}

/// The message to send back.
type Answer = Option<(OpCode, Vec<u8>)>;

fn io(error: std::io::Error) -> Fault {
    Fault::Io(error.raw_os_error().unwrap_or(0))
}

/// The suite itself waits up to 100 s in cases of class 9, but never that long in silence.
const SILENCE_MOST: Duration = Duration::from_secs(20);
const RECEIVE_BYTES: usize = 64 << 10;
