//! What the emulator needs of Linux and std does not offer: TUN devices in other network namespaces, waiting on
//! several descriptors, and signals as something to wait on.
//!
//! The one file here with `unsafe`: each block is one system call on memory that lives through it.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A TUN device (layer 3, no packet information header), opened without blocking.
#[derive(Debug)]
pub struct Tun {
    pub file: File,
    pub name: String,
}

/// Where and how a TUN device is made.
#[derive(Clone, Debug)]
pub struct TunSpec {
    /// A name under /run/netns, a path to a namespace, or `.` for the present one.
    pub namespace: String,
    /// `%d` in it becomes the first free number.
    pub device: String,
    /// In CIDR notation.
    pub addresses: Vec<String>,
    pub mtu: u16,
}

impl Tun {
    /// Makes the device, gives it its addresses and brings it up. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
    pub fn open(spec: &TunSpec) -> Result<Tun, String> {
        let made = in_namespace(&spec.namespace, || {
            let tun = create(&spec.device).map_err(|error| format!("TUN device in `{}`: {error}", spec.namespace))?;
            let name = tun.name.as_str();
            // No link-local address: its neighbour discovery would be counted as traffic.
            ip(&["link", "set", "dev", name, "addrgenmode", "none"])?;
            ip(&["link", "set", "dev", name, "mtu", &spec.mtu.to_string()])?;
            for address in &spec.addresses {
                let mut arguments = vec!["address", "add", address.as_str(), "dev", name];
                if address.contains(':') {
                    // Duplicate address detection would keep it tentative for a second.
                    arguments.push("nodad");
                }
                ip(&arguments)?;
            }
            ip(&["link", "set", "dev", name, "up"])?;
            Ok(tun)
        });
        made.map_err(|error| format!("network namespace `{}`: {error}", spec.namespace))?
    }
}

/// Calls `work` on a thread of its own inside a network namespace (see [`TunSpec::namespace`]). Sockets that it makes
/// stay in that namespace wherever they are used. Panics when `work` does.
pub fn in_namespace<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| enter(namespace).map(|()| work()));
        thread.join().expect("the work inside a namespace panicked")
    })
}

fn enter(namespace: &str) -> io::Result<()> {
    if namespace == "." {
        return Ok(());
    }
    let path =
        if namespace.contains('/') { PathBuf::from(namespace) } else { PathBuf::from("/run/netns").join(namespace) };
    let file = File::open(path)?;
    // SAFETY: setns takes a descriptor that is open here, and no memory.
    check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

fn create(device: &str) -> io::Result<Tun> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::other("device name longer than 15 octets"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) })?;
    let name = request.ifr_name.iter().map(|&octet| octet as u8).take_while(|&octet| octet != 0).collect();
    let name = String::from_utf8(name).map_err(io::Error::other)?;
    Ok(Tun { file, name })
}

/// Runs iproute2 in this thread's namespace.
fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| format!("running `ip` (Debian package iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Signals that end the emulator (SIGTERM, SIGINT) or make it read its schedule again (SIGHUP).
#[derive(Debug)]
pub struct Signals(File);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Stop,
    Reload,
}

impl Signals {
    /// Takes the signals away from their default actions; to be called before any thread starts.
    pub fn new() -> io::Result<Signals> {
        // SAFETY: the calls read and write the signal set, which lives on this stack; signalfd returns a descriptor
        // that nothing else owns.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&mut set, signal);
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
            let descriptor = check(libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?;
            Ok(Signals(File::from_raw_fd(descriptor)))
        }
    }

    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The next signal that has come, if any.
    pub fn poll(&mut self) -> Option<Signal> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        self.0.read_exact(&mut record).ok()?;
        // ssi_signo is the record's first field.
        let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        Some(if number == libc::SIGHUP as u32 { Signal::Reload } else { Signal::Stop })
    }
}

/// Waits until one of `descriptors` can be read or `timeout` has passed; sets `ready` for each.
pub fn wait(descriptors: &[RawFd], timeout: Duration, ready: &mut Vec<bool>) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> =
        descriptors.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // SAFETY: ppoll writes `revents` of the counted entries of a vector that lives through the call.
    let result = unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &timeout, std::ptr::null()) };
    if let Err(error) = check(result)
        && error.kind() != io::ErrorKind::Interrupted
    {
        return Err(error);
    }
    ready.clear();
    ready.extend(polled.iter().map(|entry| entry.revents != 0));
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
