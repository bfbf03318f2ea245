//! Requests to memory. They change no result.

/// Asks memory for the lines of `data`. Changes no result.
#[inline(always)]
pub fn prefetch<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..size_of_val(data)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(data.as_ptr().cast::<i8>().wrapping_add(byte)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// Asks memory for the lines that lie as far behind those of `data` as pays where one stream is
/// read, into the second level of the cache. Changes no result.
///
/// Hardware that runs ahead of a stream stops at a page. On Zen 4 two to four KiB are best, from
/// five on it is worse than nothing, and so is the first level.
#[inline(always)]
pub fn prefetch_stream<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..size_of_val(data)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let ahead = data.as_ptr().cast::<i8>().wrapping_add(byte + 3072);
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(ahead) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}
