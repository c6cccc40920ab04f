//! What the service manager that has started this process is told, such as systemd: that it serves,
//! how it fares, that it stops, that it is alive (sd_notify(3)). Without one nobody is told.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct ServiceManager {
    /// Connected to where `NOTIFY_SOCKET` says. One of our own, as that of the library waits for
    /// ever when nobody reads.
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// Whether another process speaks for the service now.
    is_silent: AtomicBool,
}

impl ServiceManager {
    /// The one that has started this process, if any, by the environment. One that cannot be
    /// reached is told nothing, and the log that.
    pub fn of_this_process() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        match connect(&address) {
            Ok(socket) => {
                let (watchdog, is_silent) = (sd_notify::watchdog_enabled(), AtomicBool::default());
                Self { socket: Some(socket), watchdog, is_silent }
            }
            Err(error) => {
                tracing::warn!(?address, %error, "the service manager cannot be reached");
                Self::default()
            }
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// How often to [feed the watchdog](Self::feed_watchdog), if there is one: twice in the time
    /// after which it would end the process (`WatchdogSec=`).
    pub fn feeding_period(&self) -> Option<Duration> {
        Some(self.watchdog? / 2)
    }

    /// Tells that whoever connects is served.
    pub fn serves(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Tells that this process serves in the place of the one that was known so far.
    pub fn takes_over(&self) {
        // No partner: the same thread tells.
        self.is_silent.store(false, Ordering::Relaxed);
        self.tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
    }

    /// Tells nothing for as long as another process serves: before this one [takes
    /// over](Self::takes_over), and once it has a successor.
    pub fn falls_silent(&self) {
        // No partner: what is told a moment later or earlier does no harm.
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Tells that the settings are read again, until the process [serves](Self::serves) by them.
    pub fn reloads(&self) {
        // Without the time, systemd since 253 takes the message for that of a broken service.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// Tells how the process fares, in a line for people.
    pub fn fares(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    /// Tells that the process stops, and how long that may take at the most, whatever the unit
    /// allows (`TimeoutStopSec=`).
    pub fn stops(&self, within: Duration, status: &str) {
        let extension = format!("EXTEND_TIMEOUT_USEC={}", within.as_micros());
        let extension = NotifyState::Custom(&extension);
        self.tell(&[NotifyState::Stopping, NotifyState::Status(status), extension]);
    }

    /// Tells the watchdog that the process is alive.
    pub fn feed_watchdog(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        // Relaxed: nothing is published along with it.
        if self.is_silent.load(Ordering::Relaxed) {
            return;
        }
        let mut text = String::new();
        for state in states {
            let _ = writeln!(text, "{state}");
        }
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::debug!(%error, "the service manager takes no message");
        }
    }
}

/// A socket that sends to `address`: a path, or a name behind `@` that is no file (unix(7)).
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

/// How long a service manager that reads nothing may hold up whoever tells it something.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A service manager that listens at an abstract name, and the way to it.
    fn manager(name: &str) -> (UnixDatagram, ServiceManager) {
        let name = format!("ringwire-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let socket = Some(connect(format!("@{name}").as_ref()).unwrap());
        let watchdog = Some(Duration::from_secs(30));
        (listener, ServiceManager { socket, watchdog, ..ServiceManager::default() })
    }

    #[test]
    fn each_message_is_one_datagram_of_lines() {
        let (listener, manager) = manager("lines");
        let received = || {
            let mut buffer = [0; 1024];
            let length = listener.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        manager.serves();
        assert_eq!(received(), "READY=1\n");
        manager.fares("3 WebSockets open");
        assert_eq!(received(), "STATUS=3 WebSockets open\n");
        manager.stops(Duration::from_millis(15_001), "draining");
        let told = "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=15001000\n";
        assert_eq!(received(), told);
        manager.feed_watchdog();
        assert_eq!(received(), "WATCHDOG=1\n");
        manager.takes_over();
        assert_eq!(received(), format!("MAINPID={}\nREADY=1\n", std::process::id()));
        assert_eq!(manager.feeding_period(), Some(Duration::from_secs(15)));
        manager.falls_silent();
        manager.serves();
        listener.set_nonblocking(true).unwrap();
        assert!(listener.recv(&mut [0]).is_err());
        // As a newcomer is until it has taken over, whatever becomes of it.
        manager.stops(Duration::ZERO, "draining");
        assert!(listener.recv(&mut [0]).is_err());
        manager.takes_over();
        assert_eq!(received(), format!("MAINPID={}\nREADY=1\n", std::process::id()));
    }

    #[test]
    fn one_that_reads_nothing_holds_nobody_up_for_ever() {
        let (_listener, manager) = manager("silent");
        let begin = Instant::now();
        // The kernel keeps some ten datagrams for it (net.unix.max_dgram_qlen), or more.
        while begin.elapsed() < SEND_TIMEOUT {
            manager.feed_watchdog();
        }
        manager.feed_watchdog();
    }
}
