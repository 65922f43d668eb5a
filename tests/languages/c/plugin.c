/* What tests/guests/conformance does in Rust, in C. */
#include "pointsman.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pointsman_bytes configuration;

bool pointsman_configure(pointsman_bytes config, pointsman_refusal *refusal) {
  configuration = config;
  for (size_t i = 0; i + 6 <= config.size; i++) {
    if (memcmp(config.data + i, "refuse", 6) == 0) {
      pointsman_refuse(refusal, "asked to refuse");
      return false;
    }
  }
  return true;
}

/* Writes bytes in hexadecimal, and null as a dash; the answer is where it ends. */
static char *hex(char *at, pointsman_bytes bytes) {
  static const char digits[] = "0123456789abcdef";
  if (bytes.data == NULL) *at++ = '-';
  for (size_t i = 0; i < bytes.size; i++) {
    *at++ = digits[bytes.data[i] >> 4];
    *at++ = digits[bytes.data[i] & 15];
  }
  return at;
}

static void describe(const pointsman_event *event, pointsman_answer *answer) {
  size_t room = 200 + 2 * (configuration.size + event->topic.size + event->key.size + event->value.size);
  for (size_t i = 0; i < event->header_count; i++) {
    room += 4 + 2 * (event->headers[i].name.size + event->headers[i].value.size);
  }
  char *text = malloc(room), *at = text;
  if (text == NULL) abort();
  at = hex(at, configuration);
  *at++ = '|';
  at = hex(at, event->topic);
  at += sprintf(at, "|%" PRId32 "|%" PRId64 "|%" PRId64 "|%" PRIu32 "|", event->partition, event->offset,
                event->timestamp_ms, event->attempt);
  at = hex(at, event->key);
  *at++ = '|';
  at = hex(at, event->value);
  *at++ = '|';
  for (size_t i = 0; i < event->header_count; i++) {
    at = hex(at, event->headers[i].name);
    *at++ = '=';
    at = hex(at, event->headers[i].value);
    *at++ = ',';
  }
  pointsman_output output = {.value = pointsman_set(text, (size_t)(at - text))};
  pointsman_emit(answer, &output, 1);
  free(text);
}

void pointsman_process(const pointsman_event *event, pointsman_answer *answer) {
  const pointsman_header *header = pointsman_find_header(event, "answer");
  pointsman_bytes asked = header ? header->value : pointsman_text(NULL);
  if (pointsman_is(asked, "pass")) {
    pointsman_pass(answer);
  } else if (pointsman_is(asked, "drop")) {
    pointsman_drop(answer, "asked");
  } else if (pointsman_is(asked, "nothing")) {
    pointsman_emit(answer, NULL, 0);
  } else if (pointsman_is(asked, "twice")) {
    pointsman_output outputs[] = {{.port = "first"}, {.port = "second"}};
    pointsman_emit(answer, outputs, 2);
  } else if (pointsman_is(asked, "rewrite")) {
    pointsman_header headers[] = {
        {pointsman_text("a"), pointsman_text("1")},
        {pointsman_text("a"), {(const uint8_t *)"\xff\x00", 2}},
        {pointsman_text("n"), pointsman_text(NULL)},
    };
    pointsman_output output = {
        .key = pointsman_set("new key", 7),
        .value = pointsman_set("new value", 9),
        .has_headers = true,
        .headers = headers,
        .header_count = 3,
        .has_timestamp = true,
        .timestamp_ms = 1,
    };
    pointsman_emit(answer, &output, 1);
  } else if (pointsman_is(asked, "nulls")) {
    pointsman_output output = {.key = pointsman_null(), .value = pointsman_null(), .has_headers = true};
    pointsman_emit(answer, &output, 1);
  } else if (pointsman_is(asked, "empty")) {
    pointsman_output output = {.key = pointsman_set(NULL, 0), .value = pointsman_set(NULL, 0)};
    pointsman_emit(answer, &output, 1);
  } else if (pointsman_is(asked, "retry")) {
    pointsman_retry(answer, "busy");
  } else if (pointsman_is(asked, "retry-after")) {
    pointsman_retry_after(answer, 1500, "busy");
  } else if (pointsman_is(asked, "reject")) {
    pointsman_reject(answer, "bad", "not acceptable");
  } else if (pointsman_is(asked, "trap")) {
    abort();
  } else {
    pointsman_log(POINTSMAN_INFO, "described");
    pointsman_count("described", 1);
    describe(event, answer);
  }
}
