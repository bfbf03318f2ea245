//! Calls of a library that may panic on what a file says: the panic becomes an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic on this thread is about to become an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f`; a panic inside of it gives its message, and nothing is printed.
pub(crate) fn guard<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                print(info);
            }
        }));
    });
    let before = GUARDED.replace(true);
    // What `f` has changed is only seen by those who ignore the error.
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(before);
    result.map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or(panic.downcast_ref::<String>().map(String::as_str));
    // A message of several lines begins with the one that says most.
    let line = text.and_then(|text| text.lines().find(|line| !line.trim().is_empty()));
    line.unwrap_or("its parser failed").trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_others_stay_panics() {
        assert_eq!(guard(|| 7), Ok(7));
        let text = guard(|| panic!("first\nsecond")).unwrap_err();
        assert_eq!(text, "first");
        let nested = guard(|| guard(|| panic!("{} inner", 1)));
        assert_eq!(nested, Ok(Err::<(), _>("1 inner".to_string())));
        assert!(!GUARDED.get());
    }
}
