//! Waiting for sockets, and being woken from another thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use super::checked;

/// Wakes a worker that sleeps in its [`Poll`] (eventfd(2)).
#[derive(Clone, Debug)]
pub struct Waker(Arc<Sleeper>);

#[derive(Debug)]
struct Sleeper {
    fd: OwnedFd,
    /// The worker sleeps, or is about to: it has not looked since for what it may be roused for.
    is_asleep: AtomicBool,
}

impl Waker {
    pub fn new() -> io::Result<Waker> {
        // SAFETY: no pointers; the descriptor that comes back is ours alone.
        let fd = unsafe {
            let fd = checked(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Waker(Arc::new(Sleeper { fd, is_asleep: AtomicBool::new(false) })))
    }

    /// The worker is about to sleep, unless it finds something to do when it looks now.
    pub fn fall_asleep(&self) {
        self.0.is_asleep.store(true, Ordering::Relaxed);
        // Whoever writes something and does not see this has written before the worker looks.
        fence(Ordering::SeqCst);
    }

    pub fn wake_up(&self) {
        self.0.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes a worker that has fallen asleep; one that is awake looks before it does. A system call only where needed.
    pub fn rouse(&self) {
        fence(Ordering::SeqCst);
        if self.0.is_asleep.load(Ordering::Relaxed) {
            self.wake_up();
            self.wake();
        }
    }

    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight octets of a live integer. The only failure is a full counter, which wakes as well.
        unsafe {
            libc::write(self.0.fd.as_raw_fd(), (&raw const one).cast(), 8);
        }
    }

    /// Whether anyone woke us since the last call.
    pub fn take(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight octets of a live integer.
        unsafe { libc::read(self.0.fd.as_raw_fd(), (&raw mut count).cast(), 8) == 8 }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// One descriptor that has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What [`Poll::add`] was given.
    pub token: u64,
    /// The socket's error queue has something.
    pub error: bool,
}

/// An epoll(7) instance, level-triggered.
#[derive(Debug)]
pub struct Poll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// The kernel is older than Linux 5.11 and counts in milliseconds only.
    is_old: bool,
}

impl Poll {
    /// Descriptors reported at once; the others come in the next turn.
    const EVENTS_MAX: usize = 128;
    /// In milliseconds, an `int` holds no more than 24 days.
    const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);

    pub fn new() -> io::Result<Poll> {
        // SAFETY: no pointers; the descriptor that comes back is ours alone.
        let fd = unsafe {
            let fd = checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            OwnedFd::from_raw_fd(fd)
        };
        let event = libc::epoll_event { events: 0, u64: 0 };
        Ok(Poll { fd, events: vec![event; Self::EVENTS_MAX], is_old: false })
    }

    /// Watches `fd` for input. It leaves the poll by being closed.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` lives through the call.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Watches a descriptor that was added for room to send as well, or no longer.
    pub fn watch_output(&self, fd: BorrowedFd<'_>, token: u64, output: bool) -> io::Result<()> {
        let events = libc::EPOLLIN | if output { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` lives through the call.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_MOD, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Watches `fd` for whatever changes, each change reported once: room to send, input, its end, an error. `watched`: the
    /// descriptor is there already, and changes to this.
    pub fn watch_changes(&self, fd: BorrowedFd<'_>, token: u64, watched: bool) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        let operation = if watched { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        // SAFETY: `event` lives through the call.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Waits until something is ready or `timeout` is over, and puts what is ready into `ready`.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<Readiness>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.min(Self::TIMEOUT_MAX);
        let count = if self.is_old { self.wait_ms(timeout) } else { self.wait_ns(timeout) };
        let count = match count {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && !self.is_old => {
                self.is_old = true;
                return self.wait(timeout, ready);
            }
            Err(error) => return Err(error),
        };
        ready.extend(
            self.events[..count]
                .iter()
                .map(|event| Readiness { token: event.u64, error: event.events & libc::EPOLLERR as u32 != 0 }),
        );
        Ok(())
    }

    /// epoll_pwait2 counts in nanoseconds, where epoll_wait rounds a pacer's half millisecond up to one.
    fn wait_ns(&mut self, timeout: Duration) -> io::Result<libc::c_int> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        // SAFETY: the event array and the timeout live through the call; no signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        checked(count as libc::c_int)
    }

    fn wait_ms(&mut self, timeout: Duration) -> io::Result<libc::c_int> {
        let timeout = timeout.as_nanos().div_ceil(1_000_000) as libc::c_int;
        let room = self.events.len() as libc::c_int;
        // SAFETY: the event array lives through the call.
        checked(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout) })
    }
}

/// Lets the program open as many descriptors as the system allows it (a call needs one, a relayed address another).
/// Returns how many that are.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through both calls.
    unsafe {
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        checked(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_waits_in_milliseconds_and_never_too_short() {
        let (waker, clock) = (Waker::new().unwrap(), crate::driver::Clock::new());
        let mut poll = Poll { is_old: true, ..Poll::new().unwrap() };
        poll.add(waker.as_fd(), 7).unwrap();
        let mut ready = Vec::new();
        let started = clock.instant();
        poll.wait(Duration::from_micros(1_100), &mut ready).unwrap();
        assert!(ready.is_empty() && clock.instant() - started >= Duration::from_micros(1_100));
        waker.wake();
        poll.wait(Duration::from_secs(10_000_000), &mut ready).unwrap();
        assert_eq!(ready, [Readiness { token: 7, error: false }]);
    }
}
