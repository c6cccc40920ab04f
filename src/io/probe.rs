//! What this kernel's io_uring can do, and a refusal that names the cause and the fix.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::buffers::ReceiveBuffers;
use super::enter::Entrance;
use super::message;
use super::token::Ticket;
pub use crate::config::Ability;

/// The optional abilities of the running kernel, less those that were disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities(u8);

impl Abilities {
    /// Whether `ability` is there to be used.
    pub fn has(self, ability: Ability) -> bool {
        self.0 & 1 << ability as u8 != 0
    }

    /// The same with `ability` there.
    #[must_use]
    pub fn with(self, ability: Ability) -> Self {
        Self(self.0 | 1 << ability as u8)
    }

    /// The same without `ability`.
    #[must_use]
    pub fn without(self, ability: Ability) -> Self {
        Self(self.0 & !(1 << ability as u8))
    }

    /// Tries the kernel once, with rings that are thrown away.
    ///
    /// # Errors
    /// A [`Refusal`] when io_uring is forbidden or too old (before 6.1) for this program.
    pub fn probe() -> Result<Self, Refusal> {
        let mut builder = IoUring::<squeue::Entry, cqueue::Entry>::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        let ring = builder.build(PROBE_ENTRIES).map_err(Refusal::from_setup)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(Refusal::from_setup)?;
        for (code, name) in REQUIRED {
            if !probe.is_supported(code) {
                return Err(Refusal::MissingOperation(name));
            }
        }
        let mut found = Self::default();
        if ring.params().is_feature_min_timeout() {
            found = found.with(Ability::MinWait);
        }
        if probe.is_supported(opcode::SetSockOpt::CODE) && kernel_at_least(6, 7) {
            found = found.with(Ability::SocketOptions);
        }
        if probe.is_supported(opcode::FixedFdInstall::CODE) {
            found = found.with(Ability::DescriptorInstall);
        }
        if let Ok(mut buffers) = ReceiveBuffers::register(&ring.submitter(), 1, 4096, true) {
            // SAFETY: the ring is the same, and nothing is received.
            unsafe { buffers.unregister(&ring.submitter()) };
            found = found.with(Ability::IncrementalBuffers);
        }
        if Entrance::by_index(ring.as_raw_fd()).is_ok() {
            found = found.with(Ability::RegisteredRing);
        }
        drop(ring);
        if can_hand_over(&builder).unwrap_or(false) {
            found = found.with(Ability::HandOver);
        }
        if builder.setup_no_sqarray().build(PROBE_ENTRIES).is_ok() {
            found = found.with(Ability::NoSqArray);
        }
        Ok(found)
    }
}

impl fmt::Display for Abilities {
    /// The abilities in use, then those that the kernel lacks or that were disabled.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |wanted: bool| {
            let chosen = Ability::ALL.into_iter().filter(|&ability| self.has(ability) == wanted);
            let names: Vec<String> = chosen
                .map(|ability| match wanted {
                    true => ability.name().to_owned(),
                    false => format!("{} (kernel {})", ability.name(), ability.since()),
                })
                .collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        write!(f, "in use: {}; missing: {}", names(true), names(false))
    }
}

/// Why the server cannot run on this kernel.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The system call does not exist.
    #[error(
        "this kernel has no io_uring ({0}): Linux 6.1 or newer built with CONFIG_IO_URING is \
         needed, and no sandbox such as gVisor in the place of the kernel"
    )]
    Absent(io::Error),
    /// The administrator has switched it off: `kernel.io_uring_disabled`, kernel 6.6.
    #[error(
        "io_uring is switched off on this machine ({0}): the sysctl kernel.io_uring_disabled is 2; \
         set it to 0 (sysctl -w kernel.io_uring_disabled=0, and a file in /etc/sysctl.d to keep it)"
    )]
    SwitchedOff(io::Error),
    /// The administrator allows it to some.
    #[error(
        "io_uring is not for everybody on this machine ({0}): the sysctl kernel.io_uring_disabled \
         is 1; set it to 0, or start the server in the group that kernel.io_uring_group names"
    )]
    ForSome(io::Error),
    /// A filter of system calls stops it.
    #[error(
        "io_uring is forbidden here ({0}): a seccomp filter stops io_uring_setup, as the default \
         profiles of Docker, containerd and Podman do; allow io_uring_setup, io_uring_enter and \
         io_uring_register (docker run --security-opt seccomp=contrib/container/seccomp.json, \
         localhostProfile in Kubernetes, SystemCallFilter=@aio in a unit of systemd)"
    )]
    Filtered(io::Error),
    /// Something else forbids it.
    #[error(
        "io_uring is forbidden here ({0}), by no sysctl and no seccomp filter: ask the log of the \
         security module, such as SELinux"
    )]
    Forbidden(io::Error),
    /// The kernel does not know the ring's set-up flags.
    #[error(
        "this kernel's io_uring is too old ({0}): SINGLE_ISSUER and DEFER_TASKRUN exist since \
         Linux 6.1; upgrade the kernel"
    )]
    TooOld(io::Error),
    /// The kernel lacks an operation.
    #[error("this kernel's io_uring lacks {0}: upgrade to Linux 6.1 or newer")]
    MissingOperation(&'static str),
    /// Batches were asked for, and the kernel cannot wait for them.
    #[error(
        "--batch-wait-us needs the kernel ability min-wait: upgrade to Linux 6.12 or newer, do not \
         disable it, or leave out --batch-wait-us"
    )]
    NoBatchWait,
    /// Memory or descriptors ran out.
    #[error(
        "no resources for an io_uring ({0}): raise RLIMIT_NOFILE or RLIMIT_MEMLOCK, or start fewer \
         shards (--shards)"
    )]
    Resources(io::Error),
    /// Anything else.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

impl Refusal {
    /// Names the cause of a failed set-up.
    pub fn from_setup(error: io::Error) -> Self {
        Self::from_setup_within(error, Confinement::of_this_process())
    }

    fn from_setup_within(error: io::Error, confinement: Confinement) -> Self {
        let Confinement { switch, is_filtered } = confinement;
        match error.raw_os_error() {
            // Filters answer with either.
            Some(libc::ENOSYS) if is_filtered => Self::Filtered(error),
            Some(libc::ENOSYS) => Self::Absent(error),
            Some(libc::EPERM) if switch == Some(2) => Self::SwitchedOff(error),
            Some(libc::EPERM) if switch == Some(1) => Self::ForSome(error),
            Some(libc::EPERM) if is_filtered => Self::Filtered(error),
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden(error),
            Some(libc::EINVAL) => Self::TooOld(error),
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => Self::Resources(error),
            _ => Self::Other(error),
        }
    }
}

/// What may keep this process from io_uring, beside its kernel.
#[derive(Clone, Copy, Debug, Default)]
struct Confinement {
    /// `kernel.io_uring_disabled`, where the kernel has it.
    switch: Option<u32>,
    /// Whether a seccomp filter looks at its system calls (proc_pid_status(5)).
    is_filtered: bool,
}

impl Confinement {
    fn of_this_process() -> Self {
        let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            switch: switch.ok().and_then(|text| text.trim().parse().ok()),
            is_filtered: status.lines().any(|line| {
                line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == SECCOMP_FILTER)
            }),
        }
    }
}

/// Whether a ring made by `builder` can hand over a file to another, which is told where it has put
/// it. Kernels before 6.1.21, and 6.2 before 6.2.8, tell zero wherever that is, so two files are
/// handed over.
fn can_hand_over(builder: &io_uring::Builder) -> io::Result<bool> {
    let mut from: IoUring = builder.build(PROBE_ENTRIES)?;
    let mut to: IoUring = builder.build(PROBE_ENTRIES)?;
    let file = File::open("/dev/null")?;
    from.submitter().register_files(&[file.as_raw_fd()])?;
    to.submitter().register_files_sparse(2)?;
    let ticket = Ticket { from: 0, serial: 0 };
    for place in 0..2 {
        // SAFETY: the request points to no memory.
        unsafe { from.submission().push(&message::hand_over(0, to.as_raw_fd(), ticket)) }
            .map_err(io::Error::other)?;
        from.submit_and_wait(1)?;
        if from.completion().next().is_none_or(|entry| entry.result() < 0) {
            return Ok(false);
        }
        to.submit_and_wait(1)?;
        if to.completion().next().is_none_or(|entry| entry.result() != place) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the running kernel is `major.minor` or newer; for abilities that no probe shows.
fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    parse_release(&release).is_some_and(|found| found >= (major, minor))
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Operations without which there is no server.
const REQUIRED: [(u8, &str); 8] = [
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::RecvMulti::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::Shutdown::CODE, "shutdown"),
    (opcode::Close::CODE, "close"),
    (opcode::MsgRingData::CODE, "msg_ring"),
];

const PROBE_ENTRIES: u32 = 4;
/// `SECCOMP_MODE_FILTER`, seccomp(2).
const SECCOMP_FILTER: &str = "2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_by_number() {
        assert_eq!(parse_release("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(parse_release("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(parse_release("unknown"), None);
    }

    #[test]
    fn each_refusal_names_a_fix() {
        for (errno, switch, is_filtered, fix) in [
            (libc::ENOSYS, None, false, "CONFIG_IO_URING"),
            (libc::ENOSYS, Some(0), true, "seccomp=contrib/container/seccomp.json"),
            (libc::EPERM, Some(0), true, "seccomp=contrib/container/seccomp.json"),
            (libc::EPERM, None, true, "seccomp=contrib/container/seccomp.json"),
            (libc::EPERM, Some(2), true, "kernel.io_uring_disabled=0"),
            (libc::EPERM, Some(2), false, "kernel.io_uring_disabled=0"),
            (libc::EPERM, Some(1), false, "kernel.io_uring_group"),
            (libc::EPERM, Some(0), false, "security module"),
            (libc::EACCES, Some(0), true, "security module"),
            (libc::EINVAL, Some(0), false, "upgrade the kernel"),
            (libc::EMFILE, Some(0), false, "--shards"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let confinement = Confinement { switch, is_filtered };
            let text = Refusal::from_setup_within(error, confinement).to_string();
            assert!(text.contains(fix), "{text}");
        }
    }

    #[test]
    fn abilities_are_told_apart() {
        for ability in Ability::ALL {
            let alone = Abilities::default().with(ability);
            assert!(Ability::ALL.iter().all(|&other| alone.has(other) == (other == ability)));
            assert_eq!(alone.without(ability), Abilities::default());
            assert!(alone.to_string().starts_with(&format!("in use: {};", ability.name())));
        }
    }
}
