use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::RocketScorer;
use crate::serving::Subscriber;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// What `work` gives, or `failed`, with the reason kept for this thread. A panic is a reason too: the values that it may have left half made
/// are its own, those shared are behind locks that only ever hold whole ones.
pub(super) fn guarded<T>(failed: T, work: impl FnOnce() -> Result<T, String>) -> T {
    let why = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return done,
        Ok(Err(why)) => why,
        Err(_) => "a panic; standard error says where".to_owned(),
    };
    let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
    LAST_ERROR.with(|last| *last.borrow_mut() = why);
    failed
}

/// The last reason of this thread; empty where there is none.
pub(super) fn told() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}

/// Text for C to keep until it is given back.
pub(super) fn owned(text: String) -> Result<*mut c_char, String> {
    CString::new(text).map(CString::into_raw).map_err(|error| error.to_string())
}

/// The handle's subscriber.
///
/// # Safety
/// `scorer` is null, or a handle that lives as long as what is given.
pub(super) unsafe fn handed<'a>(scorer: *const RocketScorer) -> Result<&'a Subscriber, String> {
    // SAFETY: the caller's promise; handles come from `Box::into_raw`, so they are aligned.
    unsafe { scorer.as_ref() }.map(|scorer| &scorer.subscriber).ok_or_else(|| "scorer is null".to_owned())
}

/// Text that must be there.
///
/// # Safety
/// As [`optional`].
pub(super) unsafe fn required<'a>(name: &str, text: *const c_char) -> Result<&'a str, String> {
    // SAFETY: the caller's promise.
    unsafe { optional(name, text)? }.ok_or_else(|| format!("{name} is null"))
}

/// Text that may be null.
///
/// # Safety
/// `text` is null, or ends with a zero byte and does not change as long as what is given lives.
pub(super) unsafe fn optional<'a>(name: &str, text: *const c_char) -> Result<Option<&'a str>, String> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, and the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| format!("{name} is not UTF-8"))
}
