//! Memory that is needed in a moment, fetched while something else is done.
#![allow(unsafe_code)] // the processor's instruction for it takes a pointer

/// Octets that a cache fetches at once.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has `value` in the cache soon, if the processor can be told so (x86-64); nothing else comes of it. What lies behind pointers
/// in it is not fetched. Worth it before work on something else that takes longer than memory does, some 100 ns.
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::from_ref(value).cast::<i8>().wrapping_add(offset);
        // SAFETY: a hint; it reads nothing that the program sees and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
