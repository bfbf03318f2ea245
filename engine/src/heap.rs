//! The process's heap, for programs whose memory plan must hold.
//!
//! ```
//! drop(vec![String::from("what a tokenizer was trained on"); 1000]);
//! engine::heap::release_freed();
//! ```

/// Gives freed memory back to the operating system. The C library keeps what was freed in small
/// pieces, such as the text that a tokenizer was trained on; a run that is about to allocate its
/// buffers has no use for it. Does nothing where the C library is not glibc.
pub fn release_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> i32;
        }
        malloc_trim(0);
    }
}
