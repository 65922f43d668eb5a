/* Lets a share of all keys pass, and drops the others:
 *
 *     config = { per_million = 100000 }
 *
 * keeps a tenth. Whether a key is kept depends on nothing but its bytes and that number, so it is the same on every instance,
 * router and topic; and whoever is kept by a smaller share is kept by every larger one. An event without a key is taken by its
 * origin instead, so that a retry finds it where it was.
 *
 * The hash is FNV-1a of 64 bits over the key (offset basis 14695981039346656037, prime 1099511628211), followed by the finalizer of MurmurHash3,
 * since the high bits of FNV depend little on the last bytes: h ^= h >> 33, h *= 0xff51afd7ed558ccd, h ^= h >> 33,
 * h *= 0xc4ceb9fe1a85ec53, h ^= h >> 33. A key is kept where h modulo 1000000 is less than per_million. Without a key the bytes are
 * those of the topic, then partition (4) and offset (8) from the lowest byte on. */
#include "pointsman.h"

#include <string.h>

#define MILLION 1000000u

static uint32_t per_million;

/* What is left of the configuration. */
typedef struct {
  const uint8_t *at;
  const uint8_t *end;
} text;

/* Takes this from the front, after any space. */
static bool take(text *text, const char *word) {
  size_t size = strlen(word);
  while (text->at < text->end && memchr(" \t\r\n", *text->at, 4) != NULL) text->at++;
  if ((size_t)(text->end - text->at) < size || memcmp(text->at, word, size) != 0) return false;
  text->at += size;
  return true;
}

/* Takes a whole number of at most a million, as JSON has them: without zeros at its front. */
static bool take_number(text *text, uint32_t *number) {
  if (!take(text, "")) return false;
  const uint8_t *first = text->at;
  uint32_t value = 0;
  while (text->at < text->end && *text->at >= '0' && *text->at <= '9') {
    value = value * 10 + (*text->at++ - '0');
    if (value > MILLION) return false;
  }
  if (text->at == first || (*first == '0' && text->at - first > 1)) return false;
  *number = value;
  return true;
}

bool pointsman_configure(pointsman_bytes config, pointsman_refusal *refusal) {
  text text = {config.data, config.data + config.size};
  if (take(&text, "{") && take(&text, "\"per_million\"") && take(&text, ":") && take_number(&text, &per_million) &&
      take(&text, "}") && take(&text, "") && text.at == text.end) {
    return true;
  }
  pointsman_refuse(refusal, "`config` must be { per_million = NUMBER }, a whole number from 0 to 1000000, and nothing else");
  return false;
}

static uint64_t add_bytes(uint64_t hash, const void *data, size_t size) {
  const uint8_t *bytes = data;
  for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
  return hash;
}

/* A number, from the lowest byte on, whatever the machine. */
static uint64_t add_number(uint64_t hash, uint64_t number, size_t size) {
  for (size_t i = 0; i < size; i++) {
    uint8_t byte = (uint8_t)(number >> (8 * i));
    hash = add_bytes(hash, &byte, 1);
  }
  return hash;
}

static uint64_t finish(uint64_t hash) {
  hash ^= hash >> 33;
  hash *= UINT64_C(0xff51afd7ed558ccd);
  hash ^= hash >> 33;
  hash *= UINT64_C(0xc4ceb9fe1a85ec53);
  return hash ^ (hash >> 33);
}

static uint64_t hash_of(const pointsman_event *event) {
  uint64_t hash = UINT64_C(14695981039346656037);
  if (event->key.data != NULL) return finish(add_bytes(hash, event->key.data, event->key.size));
  hash = add_bytes(hash, event->topic.data, event->topic.size);
  hash = add_number(hash, (uint32_t)event->partition, 4);
  return finish(add_number(hash, (uint64_t)event->offset, 8));
}

void pointsman_process(const pointsman_event *event, pointsman_answer *answer) {
  if (hash_of(event) % MILLION < per_million) {
    pointsman_pass(answer);
  } else {
    pointsman_drop(answer, "not-sampled");
  }
}
