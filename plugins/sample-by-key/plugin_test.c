/* make test */
#include "pointsman.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void expect(bool is_so, const char *what) {
  if (is_so) return;
  fprintf(stderr, "not so: %s\n", what);
  failures++;
}

static bool accepts(const char *config) {
  char *refusal = pointsman_configured(config);
  bool accepted = refusal == NULL;
  free(refusal);
  return accepted;
}

static bool keeps(const pointsman_event *event) {
  char *said = pointsman_judge(event);
  bool passes = strcmp(said, "pass") == 0;
  expect(passes || strcmp(said, "drop: not-sampled") == 0, said);
  free(said);
  return passes;
}

static bool keeps_key(const char *key) {
  pointsman_event event = {.topic = pointsman_text("orders"), .key = pointsman_text(key), .attempt = 1};
  return keeps(&event);
}

static void configurations(void) {
  expect(accepts("{\"per_million\":0}"), "0 is a share");
  expect(accepts(" { \"per_million\" : 1000000 } \n"), "spaces are allowed");
  const char *wrong[] = {"", "{}", "{\"per_million\":}", "{\"per_million\":-1}", "{\"per_million\":1.5}", "{\"per_million\":01}",
                         "{\"per_million\":1000001}", "{\"per_million\":99999999999999999999}", "{\"per_million\":\"1\"}",
                         "{\"per_million\":1", "{\"per_million\":1}}", "{\"per_million\":1,\"a\":1}", "{\"share\":1}"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) expect(!accepts(wrong[i]), wrong[i]);
}

static void shares(void) {
  const char *configs[] = {"{\"per_million\":0}", "{\"per_million\":100000}", "{\"per_million\":500000}",
                           "{\"per_million\":1000000}"};
  const int least[] = {0, 900, 4800, 10000}, most[] = {0, 1100, 5200, 10000};
  static bool kept[10000];
  memset(kept, 0, sizeof kept);
  for (int share = 0; share < 4; share++) {
    expect(accepts(configs[share]), configs[share]);
    int count = 0;
    for (int i = 0; i < 10000; i++) {
      char key[32];
      snprintf(key, sizeof key, "customer-%d", i);
      bool is_kept = keeps_key(key);
      expect(is_kept || !kept[i], "who is kept by a smaller share is kept by a larger one");
      kept[i] = is_kept;
      count += is_kept;
    }
    expect(count >= least[share] && count <= most[share], configs[share]);
  }
}

/* From another implementation of the hash: it must never change. */
static void hash(void) {
  expect(accepts("{\"per_million\":514342}") && !keeps_key("") && accepts("{\"per_million\":514343}") && keeps_key(""),
         "an empty key is a key");
  expect(accepts("{\"per_million\":828315}") && !keeps_key("a") && accepts("{\"per_million\":828316}") && keeps_key("a"),
         "the hash of `a`");
}

static void without_key(void) {
  expect(accepts("{\"per_million\":500000}"), "half of them");
  int count = 0;
  for (int64_t offset = 0; offset < 1000; offset++) {
    pointsman_event event = {.topic = pointsman_text("orders"), .partition = 3, .offset = offset, .attempt = 1};
    bool first = keeps(&event);
    event.attempt = 2;
    event.value = pointsman_text("changed");
    expect(keeps(&event) == first, "a retry is judged as the first attempt was");
    count += first;
  }
  expect(count > 400 && count < 600, "events without a key are spread, too");
}

int main(void) {
  configurations();
  shares();
  hash();
  without_key();
  return failures > 0;
}
