/* Scoring with the light net of a snapshot topic, from C, or from what calls C.
 *
 * A handle may be used by many threads at once, but for rocket_close: nobody may be using the handle then, or use it after. Text given is
 * UTF-8 and ends with a zero byte; it is copied where it is kept. No function throws, exits or unwinds; what went wrong in a thread is
 * what rocket_last_error says in that thread.
 */

#ifndef ROCKET_H
#define ROCKET_H

#include <stddef.h>
#include <stdint.h>

// Follows one model; made by `rocket_open`, ended by `rocket_close`.
typedef struct rocket_scorer rocket_scorer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Boots from the directory `cache_dir`, this model's own, and starts to follow the model's snapshot topic. Does not wait for a broker.
//
// `brokers` is like "host:9092,host:9092". May be null: `properties`, further librdkafka settings, `KEY=VALUE` a line; `topic`, which then is
// `MODEL.snapshots`; `trusted`, the path of a file of trusted keys, without which whoever may write to the topic says what is served.
//
// Null on failure.
//
// # Safety
// Each text is null or ends with a zero byte, and does not change during the call.
rocket_scorer *rocket_open(const char *model,
                           const char *brokers,
                           const char *properties,
                           const char *topic,
                           const char *cache_dir,
                           const char *trusted);

// Waits until a model is served, at most so long. 1: one is; 0: none came; -1: failure, also where following has ended without one.
//
// # Safety
// `scorer` is null or of `rocket_open`, and not closed.
int32_t rocket_wait(const rocket_scorer *scorer,
                    uint64_t timeout_ms);

// The version served now; -1 where none is, or on failure.
//
// # Safety
// As `rocket_wait`.
int64_t rocket_version(const rocket_scorer *scorer);

// Scores candidates with the model served now: probabilities of click, one per candidate, into `scores`, which has room for `capacity`.
// The number of candidates, or -1 on failure, `scores` being untouched then.
//
// `context` is a JSON object of columns that all candidates share; `candidates` a JSON array of objects, whose columns win. `time_ms` is
// the time in milliseconds since 1970; negative: now. Where `version` is not null, it is set to the version that scored.
//
// # Safety
// As `rocket_wait`; the texts as in `rocket_open`; `scores` is null only where `capacity` is 0, and nobody else uses it during the call;
// `version` is null or can be written.
int64_t rocket_score(const rocket_scorer *scorer,
                     const char *context,
                     const char *candidates,
                     int64_t time_ms,
                     float *scores,
                     uintptr_t capacity,
                     uint64_t *version);

// One look at everything, as JSON; null on failure. To be given back to `rocket_free_text`.
//
// # Safety
// As `rocket_wait`.
char *rocket_status(const rocket_scorer *scorer);

// What went wrong in the last call of this thread that failed; empty where none has. Good until the next call in this thread fails.
const char *rocket_last_error(void);

// Gives back what `rocket_status` gave. Null does nothing.
//
// # Safety
// `text` is null or of `rocket_status`, and was not given back.
void rocket_free_text(char *text);

// Stops following and frees the handle. Null does nothing.
//
// # Safety
// `scorer` is null or of `rocket_open`, was not closed, and nobody uses it any more.
void rocket_close(rocket_scorer *scorer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ROCKET_H */
