//! Which panics happened on this thread: a simulation lives on one, so several may run beside each other.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Begins to listen, once per process, and forgets what this thread has seen.
pub fn listen() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            SEEN.with(|seen| seen.borrow_mut().push(panic.to_string()));
            before(panic);
        }));
    });
    drop(take());
}

/// What panicked on this thread since the last call.
pub fn take() -> Vec<String> {
    SEEN.with(|seen| std::mem::take(&mut *seen.borrow_mut()))
}
