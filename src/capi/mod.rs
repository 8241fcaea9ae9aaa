//! The subscriber and the scoring as C functions: `ops/capi/build` makes the library, `ops/capi/rocket.h` declares it.
//!
//! A handle may be used by many threads at once, but for [`rocket_close`]. Nothing unwinds across the border: a panic is an error like any
//! other. What went wrong in a thread is what [`rocket_last_error`] says in that thread.
#![allow(unsafe_code, reason = "pointers of C come in here and nowhere else; each function says what it relies on")]

mod border;

use std::ffi::{c_char, c_float};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use crate::config::KafkaConfig;
use crate::domain::EventTime;
use crate::keys::Trust;
use crate::serving::{Subscriber, SubscriberConfig, now_ms};
use crate::stream::{KafkaLogReader, LogReader};
use crate::wire::{Object, RequestText};
use border::{guarded, handed, optional, owned, required, told};

/// How often a wait looks: a model comes every few minutes, and a start is not waited for more finely than this.
const LOOK: Duration = Duration::from_millis(5);

/// Follows one model; made by `rocket_open`, ended by `rocket_close`.
#[derive(Debug)]
pub struct RocketScorer {
    subscriber: Subscriber,
}

/// Boots from the directory `cache_dir`, this model's own, and starts to follow the model's snapshot topic. Does not wait for a broker.
///
/// `brokers` is like "host:9092,host:9092". May be null: `properties`, further librdkafka settings, `KEY=VALUE` a line; `topic`, which then is
/// `MODEL.snapshots`; `trusted`, the path of a file of trusted keys, without which whoever may write to the topic says what is served.
///
/// Null on failure.
///
/// # Safety
/// Each text is null or ends with a zero byte, and does not change during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rocket_open(
    model: *const c_char,
    brokers: *const c_char,
    properties: *const c_char,
    topic: *const c_char,
    cache_dir: *const c_char,
    trusted: *const c_char,
) -> *mut RocketScorer {
    guarded(ptr::null_mut(), || {
        // SAFETY: the caller promises text that ends with a zero byte, or null, which is looked for.
        let (model, brokers, cache) =
            unsafe { (required("model", model)?, required("brokers", brokers)?, required("cache_dir", cache_dir)?) };
        // SAFETY: likewise.
        let (properties, topic, trusted) =
            unsafe { (optional("properties", properties)?, optional("topic", topic)?, optional("trusted", trusted)?) };
        let properties = properties.unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty());
        let properties = properties.map(|line| match line.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err("properties: a line is not of the form KEY=VALUE".to_owned()),
        });
        let kafka =
            KafkaConfig { brokers: brokers.to_owned(), properties: properties.collect::<Result<_, _>>()?, ..KafkaConfig::default() };
        let trust = trusted.map(|path| Trust::load(Path::new(path))).transpose().map_err(|error| format!("trusted: {error}"))?;
        let topic = topic.map_or_else(|| format!("{model}.snapshots"), str::to_owned);
        let config = SubscriberConfig { trust: trust.unwrap_or_default(), ..SubscriberConfig::new(model, cache) };
        let open_reader = move || Ok(Box::new(KafkaLogReader::open(&kafka, &topic)?) as Box<dyn LogReader>);
        let subscriber = Subscriber::start(config, open_reader).map_err(|error| error.to_string())?;
        Ok(Box::into_raw(Box::new(RocketScorer { subscriber })))
    })
}

/// Waits until a model is served, at most so long. 1: one is; 0: none came; -1: failure, also where following has ended without one.
///
/// # Safety
/// `scorer` is null or of `rocket_open`, and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rocket_wait(scorer: *const RocketScorer, timeout_ms: u64) -> i32 {
    guarded(-1, || {
        // SAFETY: the caller promises a handle that lives, or null, which is looked for.
        let subscriber = unsafe { handed(scorer)? };
        let (started, timeout) = (Instant::now(), Duration::from_millis(timeout_ms));
        loop {
            if subscriber.version().is_some() {
                return Ok(1);
            }
            if !subscriber.is_following() {
                return Err(subscriber.refusal().unwrap_or_else(|| "the thread that follows the snapshot topic has ended".to_owned()));
            }
            if started.elapsed() >= timeout {
                return Ok(0);
            }
            std::thread::sleep(LOOK);
        }
    })
}

/// The version served now; -1 where none is, or on failure.
///
/// # Safety
/// As `rocket_wait`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rocket_version(scorer: *const RocketScorer) -> i64 {
    guarded(-1, || {
        // SAFETY: the caller promises a handle that lives, or null, which is looked for.
        let subscriber = unsafe { handed(scorer)? };
        Ok(subscriber.version().map_or(-1, |version| i64::try_from(version.0).unwrap_or(i64::MAX)))
    })
}

/// Scores candidates with the model served now: probabilities of click, one per candidate, into `scores`, which has room for `capacity`.
/// The number of candidates, or -1 on failure, `scores` being untouched then.
///
/// `context` is a JSON object of columns that all candidates share; `candidates` a JSON array of objects, whose columns win. `time_ms` is
/// the time in milliseconds since 1970; negative: now. Where `version` is not null, it is set to the version that scored.
///
/// # Safety
/// As `rocket_wait`; the texts as in `rocket_open`; `scores` is null only where `capacity` is 0, and nobody else uses it during the call;
/// `version` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rocket_score(
    scorer: *const RocketScorer,
    context: *const c_char,
    candidates: *const c_char,
    time_ms: i64,
    scores: *mut c_float,
    capacity: usize,
    version: *mut u64,
) -> i64 {
    guarded(-1, || {
        // SAFETY: the caller promises a handle that lives, or null, which is looked for.
        let subscriber = unsafe { handed(scorer)? };
        // SAFETY: the caller promises text that ends with a zero byte, or null, which is looked for.
        let (context, candidates) = unsafe { (required("context", context)?, required("candidates", candidates)?) };
        let candidates = match RequestText::find_candidates(candidates) {
            Some(found) => found,
            None => serde_json::from_str::<Vec<&RawValue>>(candidates)
                .map_err(|error| format!("candidates: {error}"))?
                .into_iter()
                .map(RawValue::get)
                .collect(),
        };
        let candidates: Vec<_> = candidates.into_iter().map(Object::Json).collect();
        if candidates.len() > capacity || (scores.is_null() && capacity > 0) {
            return Err(format!("scores: {} candidates, and room for {capacity}", candidates.len()));
        }
        let model = subscriber.model().ok_or("no model yet: no snapshot on disk, and none verified from the topic so far")?;
        let time = EventTime(if time_ms < 0 { now_ms() } else { time_ms });
        let found = model.score_objects(time, Object::Json(context), &candidates).map_err(|wrong| match wrong.candidate {
            Some(index) => format!("candidates[{index}]: {wrong}"),
            None => format!("context: {wrong}"),
        })?;
        if let Some(index) = found.iter().position(|score| !score.is_finite()) {
            return Err(format!("candidates[{index}] has no finite score: its numbers overflow the net"));
        }
        if !found.is_empty() {
            // SAFETY: there are no more scores than the caller has promised room for, and `found` is ours alone.
            unsafe { ptr::copy_nonoverlapping(found.as_ptr(), scores, found.len()) };
        }
        if !version.is_null() {
            // SAFETY: the caller promises that it can be written where it is not null.
            unsafe { version.write(model.version().0) };
        }
        Ok(i64::try_from(found.len()).unwrap_or(i64::MAX))
    })
}

/// One look at everything, as JSON; null on failure. To be given back to `rocket_free_text`.
///
/// # Safety
/// As `rocket_wait`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rocket_status(scorer: *const RocketScorer) -> *mut c_char {
    guarded(ptr::null_mut(), || {
        // SAFETY: the caller promises a handle that lives, or null, which is looked for.
        let subscriber = unsafe { handed(scorer)? };
        owned(serde_json::to_string(&subscriber.status()).map_err(|error| error.to_string())?)
    })
}

/// What went wrong in the last call of this thread that failed; empty where none has. Good until the next call in this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn rocket_last_error() -> *const c_char {
    told()
}

/// Gives back what `rocket_status` gave. Null does nothing.
///
/// # Safety
/// `text` is null or of `rocket_status`, and was not given back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rocket_free_text(text: *mut c_char) {
    guarded((), || {
        if !text.is_null() {
            // SAFETY: the caller promises that it is one of `CString::into_raw`, once.
            drop(unsafe { std::ffi::CString::from_raw(text) });
        }
        Ok(())
    });
}

/// Stops following and frees the handle. Null does nothing.
///
/// # Safety
/// `scorer` is null or of `rocket_open`, was not closed, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rocket_close(scorer: *mut RocketScorer) {
    guarded((), || {
        if scorer.is_null() {
            return Ok(());
        }
        // SAFETY: the caller promises that it is one of `Box::into_raw`, once, and that nobody else uses it.
        let scorer = unsafe { Box::from_raw(scorer) };
        scorer.subscriber.stop().map_err(|error| error.to_string())
    });
}
