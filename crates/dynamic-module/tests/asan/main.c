// The native module in a fake Envoy. AddressSanitizer reports each fault of memory, and a check each wrong result.
//
//   host MODULE CAPTURES...
//
// The module is one with injected panics (`--features inject-panics`).
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

static const char DEFAULT[] = "{\"defaults\": {\"protocol\": \"mysql\"}}";
static const char DETECT[] = "{\"metrics\": {\"profile\": \"full\"}}";
// A rule for each stage, and a policy.
static const char STAGES[] =
    "{\"rules\": [{\"match\": {\"addresses\": [\"::1/128\"]}, \"protocol\": \"mysql\", \"mysql\": {\"hold_split_eof\": \"always\","
    " \"clear_capabilities\": [\"compress\", \"zstd\", \"ssl\"], \"block_local_infile\": true}, \"proxy_protocol\": {\"receive\":"
    " {\"mode\": \"required\", \"trusted_networks\": [\"127.0.0.0/8\"]}, \"send\": {\"mode\": \"with_first_client_bytes\","
    " \"version\": 2}}}], \"access_log\": [\"user\", \"schema\", \"commands\", \"opaque_reason\"], \"metrics\": {\"profile\": \"full\"}}";
static const char POLICY[] = "{\"defaults\": {\"protocol\": \"mysql\"}, \"access_log\": [\"user\"]}";
static const char WAITS[] = "{\"defaults\": {\"protocol\": \"mysql\", \"greeting_timeout\": \"1ms\"}}";
static const char HEADER[] = "PROXY TCP4 192.0.2.1 192.0.2.2 4000 3306\r\n";

// --- captures ---

typedef struct {
  const char *path;
  int *senders;
  Bytes *chunks;
  size_t count, total;
} Capture;

static Capture read_capture(const char *path) {
  Capture capture = {.path = path};
  FILE *file = fopen(path, "r");
  CHECK(file, "%s", path);
  char *line = NULL;
  size_t size = 0;
  ssize_t len;
  while ((len = getline(&line, &size, file)) > 0) {
    if (line[0] != 'C' && line[0] != 'S') continue;
    Bytes bytes = {0};
    unsigned byte;
    for (char *at = line + 2; sscanf(at, "%2x", &byte) == 1; at += 2) {
      char as_char = (char)byte;
      append(&bytes, &as_char, 1);
    }
    size_t n = capture.count++;
    capture.senders = realloc(capture.senders, capture.count * sizeof(int));
    capture.chunks = realloc(capture.chunks, capture.count * sizeof(Bytes));
    capture.senders[n] = line[0] == 'C' ? CLIENT : SERVER;
    capture.chunks[n] = bytes;
    capture.total += bytes.len;
  }
  free(line);
  fclose(file);
  CHECK(capture.count > 0, "%s", path);
  return capture;
}

static void free_capture(Capture *capture) {
  for (size_t n = 0; n < capture->count; n++) free(capture->chunks[n].data);
  free(capture->chunks);
  free(capture->senders);
}

// Bytes of a sender in a capture.
static Bytes stream(const Capture *capture, int sender) {
  Bytes all = {0};
  for (size_t n = 0; n < capture->count; n++)
    if (capture->senders[n] == sender) append(&all, capture->chunks[n].data, capture->chunks[n].len);
  return all;
}

// Passes a capture. Each chunk is cut into parts of `part` bytes, and once more before byte `cut` of the capture.
static void play(Connection *connection, const Capture *capture, size_t part, size_t cut) {
  size_t passed = 0;
  for (size_t n = 0; n < capture->count; n++) {
    const Bytes *chunk = &capture->chunks[n];
    for (size_t at = 0; at < chunk->len;) {
      size_t len = part < chunk->len - at ? part : chunk->len - at;
      if (passed < cut && cut < passed + len) len = cut - passed;
      feed(connection, capture->senders[n], chunk->data + at, len, false);
      at += len;
      passed += len;
    }
  }
  feed(connection, CLIENT, "", 0, true);
  if (!connection->closed) event(connection, REMOTE_CLOSE);
}

static void expect_unchanged(const Connection *connection, const Capture *capture) {
  for (int sender = CLIENT; sender <= SERVER; sender++) {
    Bytes expected = stream(capture, sender);
    const Bytes *found = &connection->forwarded[sender];
    CHECK(found->len == expected.len && !(found->len && memcmp(found->data, expected.data, found->len)),
          "%s: %zu bytes of sender %d became %zu", capture->path, expected.len, sender, found->len);
    free(expected.data);
  }
}

// Plays a capture on a connection of its own, and returns the counts.
static char *counts(void *configuration, const Capture *capture, size_t part, size_t cut) {
  flush();
  forget_counts();
  Connection *connection = new_connection(configuration, 0);
  open_connection(connection);
  play(connection, capture, part, cut);
  expect_unchanged(connection, capture);
  destroy(connection);
  flush();
  CHECK(metric("firstword_connections_total", "") == 1, "%s: not one connection", capture->path);
  return all_metrics();
}

// Largest capture, in bytes, that is cut at every place.
enum { SMALL = 500 };

static void captures_are_forwarded_and_counted_alike(const Capture *captures, size_t count) {
  start_extension();
  void *configuration = configure("main", DEFAULT, strlen(DEFAULT));
  size_t cuts = 0;
  for (size_t n = 0; n < count; n++) {
    const Capture *capture = &captures[n];
    char *whole = counts(configuration, capture, SIZE_MAX, 0);
    char *by_byte = counts(configuration, capture, 1, 0);
    CHECK(strcmp(whole, by_byte) == 0, "%s: whole:\n%s\nbyte by byte:\n%s", capture->path, whole, by_byte);
    free(by_byte);
    for (size_t cut = 1; capture->total <= SMALL && cut < capture->total; cut++, cuts++) {
      char *at_cut = counts(configuration, capture, SIZE_MAX, cut);
      CHECK(strcmp(whole, at_cut) == 0, "%s: whole:\n%s\ncut at %zu:\n%s", capture->path, whole, cut, at_cut);
      free(at_cut);
    }
    free(whole);
  }
  printf("%zu captures, whole and byte by byte, and %zu single cuts: the same bytes and counts\n", count, cuts);
  end_configuration(configuration);
  end_extension();
}

static void all_stages_at_once(const Capture *captures, size_t count) {
  start_extension();
  void *configuration = configure("stages", STAGES, strlen(STAGES));
  CHECK(configuration, "the configuration is refused");
  static const size_t parts[] = {SIZE_MAX, 1, 5};
  for (size_t n = 0; n < count; n++) {
    for (size_t m = 0; m < 3; m++) {
      Connection *connection = new_connection(configuration, 0);
      open_connection(connection);
      for (size_t at = 0; at < strlen(HEADER); at++) feed(connection, CLIENT, HEADER + at, 1, false);
      play(connection, &captures[n], parts[m], 0);
      destroy(connection);
    }
  }
  flush();
  CHECK(metric("firstword_proxy_protocol_received_total", "") > 0, "no header was received");
  CHECK(metric("firstword_proxy_protocol_sent_total", "") > 0, "no header was sent");
  CHECK(metric("firstword_prepare_eof_held_total", "") > 0, "no EOF was held");
  CHECK(metric("firstword_local_infile_total", "") > 0, "no file was judged");
  printf("%zu captures through all stages: %ld headers received, %ld sent\n", count,
         (long)metric("firstword_proxy_protocol_received_total", ""), (long)metric("firstword_proxy_protocol_sent_total", ""));
  end_configuration(configuration);
  end_extension();
}

// The servers of the captures offer no TLS, so the flag is set in their greetings.
static void tls_to_the_server(const Capture *captures, size_t count) {
  static const char *text = "{\"rules\": [{\"match\": {\"addresses\": [\"*\"]}, \"protocol\": \"mysql\", "
                            "\"tls\": {\"upstream\": \"originate\"}}]}";
  start_extension();
  void *configuration = configure("tls", text, strlen(text));
  CHECK(configuration, "the configuration is refused");
  static const size_t parts[] = {SIZE_MAX, 1, 5};
  for (size_t n = 0; n < count; n++) {
    Bytes *greeting = &captures[n].chunks[0];
    size_t version = 5;
    while (version < greeting->len && greeting->data[version]) version++;
    // NUL, thread id, scramble, filler, and the lower byte of the flags.
    size_t flags = version + 1 + 4 + 8 + 1 + 1;
    char offered = flags < greeting->len ? greeting->data[flags] : 0;
    if (flags < greeting->len) greeting->data[flags] |= 0x08;
    for (size_t m = 0; m < 3; m++) {
      Connection *connection = new_connection(configuration, 0);
      open_connection(connection);
      play(connection, &captures[n], parts[m], 0);
      CHECK(connection->tls || connection->forwarded[CLIENT].len == 0 || connection->forwarded[CLIENT].len == 36,
            "%s: %zu bytes left without TLS", captures[n].path, connection->forwarded[CLIENT].len);
      destroy(connection);
    }
    if (flags < greeting->len) greeting->data[flags] = offered;
  }
  flush();
  long established = (long)metric("firstword_tls_sessions_total", "established");
  CHECK(established > 0, "TLS was established with no server");
  printf("%zu captures with TLS to the server: %ld times established\n", count, established);
  end_configuration(configuration);
  end_extension();
}

static void random_bytes(const Capture *captures, size_t count) {
  start_extension();
  const char *texts[] = {DEFAULT, DETECT, STAGES, POLICY};
  unsigned seed = 19;
  for (size_t n = 0; n < 4; n++) {
    void *configuration = configure("random", texts[n], strlen(texts[n]));
    for (int round = 0; round < 1000; round++) {
      Connection *connection = new_connection(configuration, 0);
      open_connection(connection);
      const Capture *capture = &captures[rand_r(&seed) % count];
      for (size_t at = 0; at < capture->count && at < 40; at++) {
        Bytes bytes = {0};
        append(&bytes, capture->chunks[at].data, capture->chunks[at].len);
        for (int damage = rand_r(&seed) % 3; damage > 0 && bytes.len; damage--)
          bytes.data[rand_r(&seed) % bytes.len] = (char)rand_r(&seed);
        feed(connection, rand_r(&seed) % 50 ? capture->senders[at] : rand_r(&seed) % 2, bytes.data, bytes.len, rand_r(&seed) % 100 == 0);
        free(bytes.data);
      }
      if (rand_r(&seed) % 2 && !connection->ended) event(connection, rand_r(&seed) % 2);
      destroy(connection);
    }
    end_configuration(configuration);
  }
  printf("4000 connections with damaged bytes\n");
  end_extension();
}

// --- ends ---

// Ends two connections, their configuration and the extension in each order. `events`: which connections get a close before.
static void ends_in_all_orders(const Capture *capture) {
  int orders = 0;
  for (int order = 0; order < 256; order++) {
    int steps[4] = {order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6 & 3};
    if ((1 << steps[0] | 1 << steps[1] | 1 << steps[2] | 1 << steps[3]) != 15) continue;
    for (int events = 0; events < 4; events++) {
      start_extension();
      void *configuration = configure("ends", DEFAULT, strlen(DEFAULT));
      Connection *both[2];
      for (int n = 0; n < 2; n++) {
        both[n] = new_connection(configuration, 0);
        open_connection(both[n]);
        feed(both[n], SERVER, capture->chunks[0].data, capture->chunks[0].len, false);
      }
      CHECK(fire_timer(), "a running timer");
      for (int n = 0; n < 4; n++) {
        int step = steps[n];
        if (step < 2) {
          if (events & 1 << step) event(both[step], step ? LOCAL_CLOSE : REMOTE_CLOSE);
          destroy(both[step]);
        } else if (step == 2) {
          end_configuration(configuration);
        } else {
          shut_down();
          end_extension();
        }
        deliver(0);
      }
      CHECK(schedulers() == 0 && timers() == 0, "%d schedulers, %d timers", schedulers(), timers());
      orders++;
    }
  }
  // A connection that ends before its first hook, and one that is closed twice.
  start_extension();
  void *configuration = configure("ends", DEFAULT, strlen(DEFAULT));
  destroy(new_connection(configuration, 0));
  Connection *connection = new_connection(configuration, 0);
  open_connection(connection);
  event(connection, LOCAL_CLOSE);
  event(connection, REMOTE_CLOSE);
  event(connection, 2);
  destroy(connection);
  end_configuration(configuration);
  shut_down();
  shut_down();
  end_extension();
  printf("%d orders of ends, two shutdowns\n", orders);
}

static void the_timer_reaches_all_connections(const Capture *capture) {
  start_extension();
  void *configuration = configure("waits", WAITS, strlen(WAITS));
  Connection *all[6];
  for (int n = 0; n < 6; n++) {
    all[n] = new_connection(configuration, 0);
    open_connection(all[n]);
  }
  CHECK(schedulers() == 1, "%d schedulers for one worker", schedulers());
  // The carrier of a worker ends between the post and the delivery.
  CHECK(fire_timer(), "a running timer");
  destroy(all[0]);
  usleep(5000);
  deliver(0);
  CHECK(fire_timer(), "a timer that was started again");
  deliver(0);
  flush();
  CHECK(metric("firstword_greeting_timeouts_total", "") == 5, "%ld time-outs", (long)metric("firstword_greeting_timeouts_total", ""));
  for (int n = 1; n < 6; n++) {
    feed(all[n], SERVER, capture->chunks[0].data, capture->chunks[0].len, false);
    destroy(all[n]);
  }
  CHECK(schedulers() == 0, "%d schedulers", schedulers());
  // A later configuration of the same name is the newest one for the connections of the earlier.
  void *newer = configure("waits", DEFAULT, strlen(DEFAULT));
  Connection *connection = new_connection(configuration, 0);
  open_connection(connection);
  CHECK(fire_timer(), "a timer");
  deliver(0);
  destroy(connection);
  end_configuration(configuration);
  end_configuration(newer);
  end_extension();
  printf("5 of 5 greeting time-outs by the timer\n");
}

static void configurations_cut_anywhere(void) {
  start_extension();
  const char *texts[] = {DEFAULT, STAGES, WAITS};
  int accepted = 0, refused = 0;
  for (size_t n = 0; n < 3; n++) {
    for (size_t len = 0; len <= strlen(texts[n]); len++) {
      void *configuration = configure("cut", texts[n], len);
      if (configuration) end_configuration(configuration);
      configuration ? accepted++ : refused++;
    }
  }
  void *configuration = configure("\xff\xfe", "\xff{\"defaults\"", 12);
  if (configuration) end_configuration(configuration);
  CHECK(accepted > 0 && refused > 0, "%d accepted, %d refused", accepted, refused);
  CHECK(fire_timer(), "a timer");
  end_extension();
  printf("configurations cut anywhere: %d accepted, %d refused\n", accepted, refused);
}

static void without_the_extension(const Capture *capture) {
  void *configuration = configure("alone", DEFAULT, strlen(DEFAULT));
  CHECK(logged("event=no_bootstrap_extension") == 1, "no log line");
  Connection *connection = new_connection(configuration, 0);
  open_connection(connection);
  play(connection, capture, SIZE_MAX, 0);
  expect_unchanged(connection, capture);
  destroy(connection);
  end_configuration(configuration);
  printf("without the extension: forwarded\n");
}

// --- panics ---

static char panic_file[] = "target/asan/panic-XXXXXX";

static void panic_at(const char *place) {
  FILE *file = fopen(panic_file, "w");
  CHECK(file && fputs(place, file) >= 0 && fclose(file) == 0, "%s", panic_file);
}

static void a_panic_stays_in_its_hook(const Capture *capture) {
  const char *places[] = {"open", "client", "server", "tick", "close"};
  const char *texts[] = {DEFAULT, POLICY};
  for (size_t m = 0; m < 2; m++) {
    bool closes = texts[m] == POLICY;
    for (size_t n = 0; n < 5; n++) {
      start_extension();
      forget_log();
      void *configuration = configure("panics", texts[m], strlen(texts[m]));
      Connection *other = new_connection(configuration, 0), *connection = new_connection(configuration, 0);
      panic_at("nothing");
      bool at_open = n == 0, at_tick = n == 3, at_close = n == 4;
      // A tick is that of all open connections, and the first of them panics.
      if (!at_tick) open_connection(other);
      if (at_open) panic_at(places[n]);
      open_connection(connection);
      if (!at_open) panic_at(places[n]);
      if (at_tick) {
        CHECK(fire_timer(), "a timer");
        deliver(0);
        open_connection(other);
      }
      play(connection, capture, SIZE_MAX, 0);
      CHECK(access(panic_file, F_OK) != 0, "no panic at %s", places[n]);
      if (!closes || at_close) expect_unchanged(connection, capture);
      // Nothing of the chunk with the panic, or after it, is forwarded.
      if (closes && (at_open || at_tick)) CHECK(!connection->forwarded[SERVER].len, "bytes after a close");
      destroy(connection);
      play(other, capture, 3, 0);
      expect_unchanged(other, capture);
      destroy(other);
      CHECK(fire_timer(), "a timer");
      flush();
      CHECK(metric("firstword_panics_total", closes ? "result=closed" : "result=passed") == 1, "panics at %s, policy %d",
            places[n], closes);
      CHECK(metric("firstword_panics_total", "") == 1, "panics at %s, policy %d", places[n], closes);
      CHECK(logged("event=panic") == 2, "%d lines for a panic at %s", logged("event=panic"), places[n]);
      end_configuration(configuration);
      end_extension();
    }
  }
  start_extension();
  panic_at("configure");
  CHECK(!configure("panics", DEFAULT, strlen(DEFAULT)), "a configuration after a panic");
  panic_at("timer");
  CHECK(fire_timer() && fire_timer(), "a timer that goes on after a panic");
  panic_at("flush");
  shut_down();
  panic_at("flush");
  flush();
  CHECK(access(panic_file, F_OK) != 0, "no panic in the flush");
  end_extension();
  printf("panics at 8 places, with and without a policy\n");
}

// --- threads ---

typedef struct {
  void *configuration;
  const Capture *captures;
  size_t count;
  uint32_t worker;
  bool *ends;
} Work;

static void *worker(void *argument) {
  Work *work = argument;
  for (size_t n = 0; n < work->count; n++) {
    Connection *idle = new_connection(work->configuration, work->worker);
    open_connection(idle);
    Connection *connection = new_connection(work->configuration, work->worker);
    open_connection(connection);
    deliver(work->worker);
    play(connection, &work->captures[n], n % 2 ? 9 : SIZE_MAX, 0);
    expect_unchanged(connection, &work->captures[n]);
    destroy(idle);
    destroy(connection);
  }
  __atomic_store_n(work->ends, true, __ATOMIC_RELEASE);
  return NULL;
}

static void two_workers_and_the_main_thread(const Capture *captures, size_t count) {
  start_extension();
  void *configuration = configure("threads", DEFAULT, strlen(DEFAULT));
  pthread_t threads[2];
  Work works[2];
  bool ends[2] = {false, false};
  for (uint32_t n = 0; n < 2; n++) {
    works[n] = (Work){configuration, captures, count, n, &ends[n]};
    CHECK(pthread_create(&threads[n], NULL, worker, &works[n]) == 0, "a thread");
  }
  int ticks = 0;
  while (!__atomic_load_n(&ends[0], __ATOMIC_ACQUIRE) || !__atomic_load_n(&ends[1], __ATOMIC_ACQUIRE)) {
    CHECK(fire_timer(), "a timer");
    if (ticks % 10 == 0) flush();
    ticks++;
    usleep(200);
  }
  for (int n = 0; n < 2; n++) pthread_join(threads[n], NULL);
  end_configuration(configuration);
  fire_timer();
  CHECK(metric("firstword_connections_total", "") == (int64_t)(4 * count), "%ld of %zu connections",
        (long)metric("firstword_connections_total", ""), 4 * count);
  CHECK(metric("firstword_connections_active", "") == 0, "open connections");
  CHECK(schedulers() == 0, "%d schedulers", schedulers());
  end_extension();
  printf("two workers: %zu connections during %d ticks, each counted\n", 4 * count, ticks);
}

int main(int argc, char **argv) {
  CHECK(argc > 2, "usage: host MODULE CAPTURES...");
  int file = mkstemp(panic_file);
  CHECK(file >= 0 && close(file) == 0, "%s", panic_file);
  setenv("FIRSTWORD_PANIC", panic_file, 1);
  setvbuf(stdout, NULL, _IOLBF, 0);
  load_module(argv[1]);
  size_t count = (size_t)argc - 2;
  Capture *captures = calloc(count, sizeof(Capture));
  for (size_t n = 0; n < count; n++) captures[n] = read_capture(argv[n + 2]);

  without_the_extension(&captures[0]);
  captures_are_forwarded_and_counted_alike(captures, count);
  all_stages_at_once(captures, count);
  tls_to_the_server(captures, count);
  random_bytes(captures, count);
  ends_in_all_orders(&captures[0]);
  the_timer_reaches_all_connections(&captures[0]);
  configurations_cut_anywhere();
  a_panic_stays_in_its_hook(&captures[0]);
  two_workers_and_the_main_thread(captures, count);
  CHECK(logged("event=host_refused") == 0, "the module made a call that the host refused");

  for (size_t n = 0; n < count; n++) free_capture(&captures[n]);
  free(captures);
  forget_log();
  unlink(panic_file);
}
