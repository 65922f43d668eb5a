/* The interface `columns` of the contract (wit/pointsman.wit) on the one side, pointsman.h on the other. */
#include "pointsman.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The length of what is null. */
#define NULL_LENGTH UINT32_MAX

/* Kinds of verdicts, and what an output changes, as the contract counts them. */
enum { PASS, DROP, EMIT, RETRY, REJECT };
enum { CHANGES_PORT = 1, CHANGES_KEY = 2, CHANGES_VALUE = 4, CHANGES_HEADERS = 8, CHANGES_TIMESTAMP = 16 };

/* Memory that grows. */
typedef struct {
  uint8_t *data;
  size_t size;
  size_t capacity;
} column;

static void append(column *column, const void *data, size_t size) {
  if (size > column->capacity - column->size) {
    size_t capacity = column->capacity ? column->capacity : 256;
    while (size > capacity - column->size) capacity *= 2;
    column->data = realloc(column->data, capacity);
    if (column->data == NULL) abort();
    column->capacity = capacity;
  }
  /* Of nothing there need not be an address. */
  if (size > 0) memcpy(column->data + column->size, data, size);
  column->size += size;
}

/* The verdicts of a batch: one kind for each event, and what each needs, in order. */
struct pointsman_answer {
  column kinds;
  column lengths;
  column numbers;
  column outputs;
  column bytes;
};

struct pointsman_refusal {
  column reason;
};

static void append_byte(column *column, uint8_t byte) { append(column, &byte, 1); }

static void append_length(pointsman_answer *answer, size_t length) {
  uint32_t short_length = (uint32_t)length;
  append(&answer->lengths, &short_length, sizeof short_length);
}

static void append_number(pointsman_answer *answer, int64_t number) {
  append(&answer->numbers, &number, sizeof number);
}

static void append_bytes(pointsman_answer *answer, pointsman_bytes bytes) {
  append_length(answer, bytes.data ? bytes.size : NULL_LENGTH);
  append(&answer->bytes, bytes.data, bytes.data ? bytes.size : 0);
}

static void append_text(pointsman_answer *answer, const char *text) {
  append_bytes(answer, pointsman_text(text ? text : ""));
}

pointsman_bytes pointsman_text(const char *text) {
  pointsman_bytes bytes = {(const uint8_t *)text, text ? strlen(text) : 0};
  return bytes;
}

bool pointsman_is(pointsman_bytes bytes, const char *text) {
  return bytes.data && bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

const pointsman_header *pointsman_find_header(const pointsman_event *event, const char *name) {
  for (size_t i = event->header_count; i > 0; i--) {
    if (pointsman_is(event->headers[i - 1].name, name)) return &event->headers[i - 1];
  }
  return NULL;
}

void pointsman_pass(pointsman_answer *answer) { append_byte(&answer->kinds, PASS); }

void pointsman_drop(pointsman_answer *answer, const char *reason) {
  append_byte(&answer->kinds, DROP);
  append_text(answer, reason);
}

void pointsman_retry(pointsman_answer *answer, const char *reason) {
  append_byte(&answer->kinds, RETRY);
  append_text(answer, reason);
  append_number(answer, -1);
}

void pointsman_retry_after(pointsman_answer *answer, uint64_t delay_ms, const char *reason) {
  append_byte(&answer->kinds, RETRY);
  append_text(answer, reason);
  append_number(answer, delay_ms > INT64_MAX ? INT64_MAX : (int64_t)delay_ms);
}

void pointsman_reject(pointsman_answer *answer, const char *code, const char *message) {
  append_byte(&answer->kinds, REJECT);
  append_text(answer, code);
  append_text(answer, message);
}

pointsman_patch pointsman_set(const void *data, size_t size) {
  /* Empty is not null. */
  pointsman_patch patch = {true, {data ? data : "", size}};
  return patch;
}

pointsman_patch pointsman_null(void) {
  pointsman_patch patch = {true, {NULL, 0}};
  return patch;
}

void pointsman_emit(pointsman_answer *answer, const pointsman_output *outputs, size_t count) {
  append_byte(&answer->kinds, EMIT);
  append_length(answer, count);
  for (size_t i = 0; i < count; i++) {
    const pointsman_output *output = &outputs[i];
    append_byte(&answer->outputs, (uint8_t)((output->port ? CHANGES_PORT : 0) | (output->key.is_changed ? CHANGES_KEY : 0) |
                                            (output->value.is_changed ? CHANGES_VALUE : 0) |
                                            (output->has_headers ? CHANGES_HEADERS : 0) |
                                            (output->has_timestamp ? CHANGES_TIMESTAMP : 0)));
    if (output->port) append_text(answer, output->port);
    if (output->key.is_changed) append_bytes(answer, output->key.to);
    if (output->value.is_changed) append_bytes(answer, output->value.to);
    if (output->has_headers) {
      append_length(answer, output->header_count);
      for (size_t j = 0; j < output->header_count; j++) {
        pointsman_bytes name = output->headers[j].name;
        if (name.data == NULL) name = pointsman_text("");
        append_bytes(answer, name);
        append_bytes(answer, output->headers[j].value);
      }
    }
    if (output->has_timestamp) append_number(answer, output->timestamp_ms);
  }
}

void pointsman_refuse(pointsman_refusal *refusal, const char *reason) {
  refusal->reason.size = 0;
  append(&refusal->reason, reason, strlen(reason));
}

/* Judges an event as the contract has it: exactly one verdict. */
static void judge(const pointsman_event *event, pointsman_answer *answer) {
  size_t before = answer->kinds.size;
  pointsman_process(event, answer);
  if (answer->kinds.size != before + 1) {
    pointsman_log(POINTSMAN_ERROR, "pointsman_process has to give exactly one verdict for each event");
    abort();
  }
}

static const char *refused(pointsman_refusal *refusal) {
  if (refusal->reason.size == 0) pointsman_refuse(refusal, "the plugin refuses its configuration without a reason");
  append_byte(&refusal->reason, 0);
  return (const char *)refusal->reason.data;
}

#ifdef __wasm__

#define IMPORT(name) __attribute__((import_module("pointsman:plugin/host@0.1.0"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("log") extern void import_log(int32_t level, const char *message, size_t size);
IMPORT("count") extern void import_count(const char *name, size_t size, uint64_t increment);

void pointsman_log(pointsman_level level, const char *message) { import_log(level, message, strlen(message)); }

void pointsman_count(const char *name, uint64_t increment) { import_count(name, strlen(name), increment); }

/* The two words of a list or string, as the canonical ABI has them. */
typedef struct {
  void *data;
  size_t count;
} list;

typedef struct {
  list topic;
  int32_t partition;
  list offsets;
  list timestamps;
  list attempts;
  list key_lengths;
  list value_lengths;
  list header_counts;
  list header_lengths;
  list bytes;
} batch_words;

typedef struct {
  list kinds;
  list lengths;
  list numbers;
  list outputs;
  list bytes;
} verdicts_words;

/* Fields, all three, in the first byte; or a refusal. */
typedef struct {
  uint8_t is_refusal;
  union {
    uint8_t fields;
    list reason;
  } is;
} configured_words;

enum { ALL_FIELDS = 7 };

/* The router asks for memory to put arguments in. */
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  (void)old_size;
  /* An address that is no memory, but aligned, where there is nothing to put. */
  if (size == 0) return (void *)align;
  void *memory = realloc(old, size);
  if (memory == NULL) abort();
  return memory;
}

static void release(list list) {
  if (list.count > 0) free(list.data);
}

EXPORT("pointsman:plugin/columns@0.1.0#configure")
configured_words *configure(const uint8_t *config, size_t size) {
  static configured_words result;
  static pointsman_refusal refusal;
  pointsman_bytes bytes = {config, size};
  if (pointsman_configure(bytes, &refusal)) {
    result.is_refusal = 0;
    result.is.fields = ALL_FIELDS;
  } else {
    const char *reason = refused(&refusal);
    result.is_refusal = 1;
    result.is.reason.data = (void *)reason;
    result.is.reason.count = strlen(reason);
  }
  return &result;
}

static pointsman_bytes take(const uint8_t **at, uint32_t length) {
  pointsman_bytes taken = {NULL, 0};
  if (length != NULL_LENGTH) {
    taken.data = *at;
    taken.size = length;
    *at += length;
  }
  return taken;
}

static list words(const column *column, size_t element) {
  list list = {column->size ? column->data : (void *)8, column->size / element};
  return list;
}

EXPORT("pointsman:plugin/columns@0.1.0#process")
verdicts_words *process(batch_words *batch) {
  static pointsman_answer answer;
  static verdicts_words result;
  static column headers;
  column *columns[] = {&answer.kinds, &answer.lengths, &answer.numbers, &answer.outputs, &answer.bytes};
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) columns[i]->size = 0;

  const uint32_t *header_length = batch->header_lengths.data;
  const uint8_t *at = batch->bytes.data;
  for (size_t i = 0; i < batch->offsets.count; i++) {
    pointsman_event event = {
        .topic = {batch->topic.data, batch->topic.count},
        .partition = batch->partition,
        .offset = ((const int64_t *)batch->offsets.data)[i],
        .timestamp_ms = ((const int64_t *)batch->timestamps.data)[i],
        .attempt = ((const uint32_t *)batch->attempts.data)[i],
        .header_count = ((const uint32_t *)batch->header_counts.data)[i],
    };
    event.key = take(&at, ((const uint32_t *)batch->key_lengths.data)[i]);
    event.value = take(&at, ((const uint32_t *)batch->value_lengths.data)[i]);
    headers.size = 0;
    for (size_t j = 0; j < event.header_count; j++) {
      pointsman_header header;
      header.name = take(&at, *header_length++);
      header.value = take(&at, *header_length++);
      append(&headers, &header, sizeof header);
    }
    event.headers = (const pointsman_header *)headers.data;
    judge(&event, &answer);
  }

  list given[] = {batch->topic, batch->offsets, batch->timestamps, batch->attempts, batch->key_lengths,
                  batch->value_lengths, batch->header_counts, batch->header_lengths, batch->bytes};
  for (size_t i = 0; i < sizeof given / sizeof *given; i++) release(given[i]);
  free(batch);
  result.kinds = words(&answer.kinds, 1);
  result.lengths = words(&answer.lengths, sizeof(uint32_t));
  result.numbers = words(&answer.numbers, sizeof(int64_t));
  result.outputs = words(&answer.outputs, 1);
  result.bytes = words(&answer.bytes, 1);
  return &result;
}

#else

void pointsman_log(pointsman_level level, const char *message) {
  static const char *const names[] = {"debug", "info", "warn", "error"};
  fprintf(stderr, "%s: %s\n", names[level], message);
}

void pointsman_count(const char *name, uint64_t increment) {
  (void)name;
  (void)increment;
}

/* Takes texts and numbers off the fronts of the columns, and writes them as text. */
typedef struct {
  const uint32_t *length;
  const int64_t *number;
  const uint8_t *output;
  const uint8_t *bytes;
  column text;
} reader;

static void say(reader *reader, const char *text) { append(&reader->text, text, strlen(text)); }

static void say_number(reader *reader, int64_t number) {
  char digits[32];
  snprintf(digits, sizeof digits, "%" PRId64, number);
  say(reader, digits);
}

static void say_bytes(reader *reader) {
  uint32_t length = *reader->length++;
  if (length == NULL_LENGTH) {
    say(reader, "null");
  } else {
    append(&reader->text, reader->bytes, length);
    reader->bytes += length;
  }
}

static void say_output(reader *reader) {
  uint8_t changes = *reader->output++;
  const char *comma = "";
  say(reader, " {");
  if (changes & CHANGES_PORT) say(reader, "port "), say_bytes(reader), comma = ", ";
  if (changes & CHANGES_KEY) say(reader, comma), say(reader, "key "), say_bytes(reader), comma = ", ";
  if (changes & CHANGES_VALUE) say(reader, comma), say(reader, "value "), say_bytes(reader), comma = ", ";
  if (changes & CHANGES_HEADERS) {
    uint32_t count = *reader->length++;
    if (count == 0) say(reader, comma), say(reader, "no headers"), comma = ", ";
    for (; count > 0; count--) {
      say(reader, comma), say(reader, "header "), say_bytes(reader), say(reader, "="), say_bytes(reader);
      comma = ", ";
    }
  }
  if (changes & CHANGES_TIMESTAMP) say(reader, comma), say(reader, "timestamp "), say_number(reader, *reader->number++);
  say(reader, "}");
}

char *pointsman_judge(const pointsman_event *event) {
  pointsman_answer answer = {0};
  judge(event, &answer);
  reader reader = {(const uint32_t *)answer.lengths.data, (const int64_t *)answer.numbers.data, answer.outputs.data,
                   answer.bytes.data, {0}};
  switch (answer.kinds.data[0]) {
    case PASS: say(&reader, "pass"); break;
    case DROP: say(&reader, "drop: "), say_bytes(&reader); break;
    case RETRY:
      say(&reader, "retry");
      if (*reader.number >= 0) say(&reader, " after "), say_number(&reader, *reader.number), say(&reader, " ms");
      say(&reader, ": "), say_bytes(&reader);
      break;
    case REJECT: say(&reader, "reject "), say_bytes(&reader), say(&reader, ": "), say_bytes(&reader); break;
    default:
      say(&reader, "emit");
      for (uint32_t count = *reader.length++; count > 0; count--) say_output(&reader);
  }
  append_byte(&reader.text, 0);
  free(answer.kinds.data), free(answer.lengths.data), free(answer.numbers.data);
  free(answer.outputs.data), free(answer.bytes.data);
  return (char *)reader.text.data;
}

char *pointsman_configured(const char *config) {
  pointsman_refusal refusal = {{0}};
  return pointsman_configure(pointsman_text(config), &refusal) ? NULL : (char *)refused(&refusal);
}

#endif
