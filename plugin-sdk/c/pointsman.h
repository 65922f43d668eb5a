/* Write Pointsman plugins in C.
 *
 * A plugin judges events, one verdict each: it lets them pass, drops them, emits others in their place, asks for a retry, or
 * rejects them. It is two functions:
 *
 *     #include "pointsman.h"
 *
 *     bool pointsman_configure(pointsman_bytes config, pointsman_refusal *refusal) { return true; }
 *
 *     void pointsman_process(const pointsman_event *event, pointsman_answer *answer) {
 *         if (event->value.data == NULL) pointsman_drop(answer, "tombstone");
 *         else pointsman_pass(answer);
 *     }
 *
 * `pointsman plugin build` builds it, with pointsman.c. Natively, for tests, a C compiler builds the same two files, and
 * pointsman_judge() tells what a plugin says of an event.
 *
 * A component in C imports nothing but the router's log and counters, and nothing can be granted to it: what its C library
 * says of the time and of randomness is made up, and what it prints is discarded. abort() is a trap: the record that caused
 * it ends as a poison pill, and the instance is thrown away.
 *
 * Everything that is handed to a function of this header is copied by it. */
#ifndef POINTSMAN_H
#define POINTSMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes; `data` is NULL where there are none, which is not the same as empty. They do not end with a zero. */
typedef struct {
  const uint8_t *data;
  size_t size;
} pointsman_bytes;

/* The bytes of a C string, without its zero; null for NULL. */
pointsman_bytes pointsman_text(const char *text);

/* Whether the bytes are this text. */
bool pointsman_is(pointsman_bytes bytes, const char *text);

/* One header of a record. */
typedef struct {
  pointsman_bytes name;
  /* Null is not the same as empty. */
  pointsman_bytes value;
} pointsman_header;

/* A record of a source topic, or what an earlier stage made of it. Topic, partition and offset together name the record it
 * comes from, for ever: a retried event has those of its source topic. */
typedef struct {
  pointsman_bytes topic;
  int32_t partition;
  int64_t offset;
  /* Milliseconds since 1970-01-01 UTC; -1 where the log has no timestamp. */
  int64_t timestamp_ms;
  pointsman_bytes key;
  /* Null is a tombstone. */
  pointsman_bytes value;
  /* In order; a name may come several times. */
  const pointsman_header *headers;
  size_t header_count;
  /* 1 on the first run of this event, 2 on its first retry, and so on. */
  uint32_t attempt;
} pointsman_event;

/* The last header of this name, as Kafka's own clients look headers up; NULL where there is none. */
const pointsman_header *pointsman_find_header(const pointsman_event *event, const char *name);

/* Where a verdict is put. */
typedef struct pointsman_answer pointsman_answer;

/* Each event gets exactly one verdict: none, or a second one, is a trap. Of each text that gives a reason the first 1024
 * bytes are kept. */

/* It goes on unchanged. */
void pointsman_pass(pointsman_answer *answer);

/* It ends here, on purpose. The reason is a short word of a small set, since metrics count by it. */
void pointsman_drop(pointsman_answer *answer, const char *reason);

/* A transient failure: the whole record is tried again later, from the first stage, on the route's schedule. The reason is
 * a sentence for a person. */
void pointsman_retry(pointsman_answer *answer, const char *reason);

/* The same, but not before so many milliseconds have passed. The route's schedule may wait longer, and caps it. */
void pointsman_retry_after(pointsman_answer *answer, uint64_t delay_ms, const char *reason);

/* A permanent failure: it is not acceptable, and would not be later. The code is a short word of a small set, since metrics
 * count by it; the message is a sentence for a person. */
void pointsman_reject(pointsman_answer *answer, const char *code, const char *message);

/* A change of a field; all zero keeps it as the event has it, and costs no copy. */
typedef struct {
  bool is_changed;
  /* Null makes the field null. */
  pointsman_bytes to;
} pointsman_patch;

/* Sets a field to these bytes. */
pointsman_patch pointsman_set(const void *data, size_t size);

/* Sets a field to null. */
pointsman_patch pointsman_null(void);

/* One event that goes on in place of the one that came in. All zero is the event as it is:
 *
 *     pointsman_output output = {.port = "eu", .value = pointsman_set(text, strlen(text))};
 *     pointsman_emit(answer, &output, 1);
 */
typedef struct {
  /* The port it leaves by, of at most 64 bytes; NULL keeps the event's. */
  const char *port;
  pointsman_patch key;
  pointsman_patch value;
  /* Headers in place of the event's, where has_headers; to add to them, begin with those of the event. */
  bool has_headers;
  const pointsman_header *headers;
  size_t header_count;
  /* Milliseconds since 1970-01-01 UTC in place of the event's timestamp, where has_timestamp. */
  bool has_timestamp;
  int64_t timestamp_ms;
} pointsman_output;

/* These go on in its place, in order. None at all ends the event, as a drop with the reason `emitted-nothing`. */
void pointsman_emit(pointsman_answer *answer, const pointsman_output *outputs, size_t count);

/* How much a log line matters. */
typedef enum {
  /* For the plugin's author. */
  POINTSMAN_DEBUG,
  /* For the record. */
  POINTSMAN_INFO,
  /* Something is odd. */
  POINTSMAN_WARN,
  /* Something is wrong. */
  POINTSMAN_ERROR
} pointsman_level;

/* Writes a line to the router's log, with route, lane and plugin as fields. At most 64 lines of 1024 bytes are kept of one
 * call. What is said in a call that traps is forgotten with that call, but for the last line of level POINTSMAN_ERROR. */
void pointsman_log(pointsman_level level, const char *message);

/* Adds to one of the plugin's own counters. A name has 1 to 64 ASCII letters, digits, `_`, `-` and `.`. */
void pointsman_count(const char *name, uint64_t increment);

/* Where a refusal is put. */
typedef struct pointsman_refusal pointsman_refusal;

/* Says why the configuration is refused; the router then does not start, and shows it. */
void pointsman_refuse(pointsman_refusal *refusal, const char *reason);

/* What a plugin defines. */

/* Called once on each instance, before any event, with the plugin's configuration as JSON text, which lasts as long as the
 * instance. False refuses it; say why with pointsman_refuse(). */
bool pointsman_configure(pointsman_bytes config, pointsman_refusal *refusal);

/* Judges one event. The event lasts until the return.
 *
 * Nothing is promised about state between calls: instances are discarded, multiplied, and shared by partitions, and a batch
 * that failed is run again in smaller parts. Keep what makes the next call cheaper, never what a verdict depends on. */
void pointsman_process(const pointsman_event *event, pointsman_answer *answer);

#ifndef __wasm__
/* Natively only, for tests: what the plugin says of an event, as text, such as `pass`, `drop: old`, `retry: busy`,
 * `retry after 5 ms: busy`, `reject bad: no id`, or `emit` followed by ` {port eu, key null, value v, header a=1,
 * timestamp 7}` for each output, with what it changes. It is to be freed. */
char *pointsman_judge(const pointsman_event *event);

/* Natively only, for tests: configures the plugin. The answer is NULL, or why it refuses, which is to be freed. */
char *pointsman_configured(const char *config);
#endif

#ifdef __cplusplus
}
#endif
#endif
