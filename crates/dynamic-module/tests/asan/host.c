#define _GNU_SOURCE
#include "host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFINE(result, name, arguments) result(*on_##name) arguments;
HOOKS(DEFINE)
#undef DEFINE

// One lock for what the threads share: the log, the metrics, the lists of connections and events. It is never held in a hook.
static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;
#define LOCKED(...)                  \
  do {                               \
    pthread_mutex_lock(&shared);     \
    __VA_ARGS__;                     \
    pthread_mutex_unlock(&shared);   \
  } while (0)

static char *log_text;
enum { LOG_END = 2000 };

void fail(const char *file, int line, const char *condition, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s:%d: not true: %s: ", file, line, condition);
  vfprintf(stderr, format, arguments);
  // The end of the log is enough.
  size_t len = log_text ? strlen(log_text) : 0;
  fprintf(stderr, "\nlog of the module:\n%s\n", log_text ? log_text + (len > LOG_END ? len - LOG_END : 0) : "");
  abort();
}

void append(Bytes *to, const char *data, size_t len) {
  if (len == 0) return;
  to->data = realloc(to->data, to->len + len);
  memcpy(to->data + to->len, data, len);
  to->len += len;
}

static Bytes block(const char *data, size_t len) {
  Bytes bytes = {malloc(len), len};
  if (len) memcpy(bytes.data, data, len);
  return bytes;
}

static bool contains(const char *text, const char *part) { return strstr(text, part) != NULL; }

// --- log ---

void envoy_dynamic_module_callback_log(uint32_t level, Buffer line) {
  CHECK(level <= 4, "level %u", level);
  pthread_mutex_lock(&shared);
  size_t old = log_text ? strlen(log_text) : 0;
  log_text = realloc(log_text, old + line.len + 2);
  memcpy(log_text + old, line.data, line.len);
  memcpy(log_text + old + line.len, "\n", 2);
  pthread_mutex_unlock(&shared);
}

int logged(const char *text) {
  int count = 0;
  for (const char *at = log_text; at && (at = strstr(at, text)); at++) count++;
  return count;
}

void forget_log(void) {
  free(log_text);
  log_text = NULL;
}

// --- metrics ---

typedef struct {
  char *name;
  char **labels;
  size_t label_count;
  bool is_gauge;
} Metric;

typedef struct {
  char *key;
  bool is_gauge;
  int64_t value;
} Series;

static Metric *metrics;
static size_t metric_count;
static Series *series;
static size_t series_count;
static size_t plain_counters;
static bool may_define;

static char *copy(Buffer text) {
  char *bytes = calloc(text.len + 1, 1);
  if (text.len) memcpy(bytes, text.data, text.len);
  return bytes;
}

static uint32_t define(Buffer name, const Buffer *labels, size_t count, size_t *id, bool is_gauge) {
  if (!may_define) return 3;
  metrics = realloc(metrics, (metric_count + 1) * sizeof(Metric));
  Metric *metric = &metrics[metric_count];
  *metric = (Metric){copy(name), calloc(count + 1, sizeof(char *)), count, is_gauge};
  for (size_t n = 0; n < count; n++) metric->labels[n] = copy(labels[n]);
  *id = ++metric_count;
  return 0;
}

static uint32_t change(size_t id, const Buffer *values, size_t count, bool is_gauge, int64_t by, bool is_set) {
  if (id == 0 || id > metric_count || metrics[id - 1].is_gauge != is_gauge) return 1;
  const Metric *metric = &metrics[id - 1];
  if (metric->label_count != count) return 2;
  char *key = strdup(metric->name);
  for (size_t n = 0; n < count; n++) {
    char *longer;
    CHECK(asprintf(&longer, "%s;%s=%.*s", key, metric->labels[n], (int)values[n].len, values[n].data) > 0, "memory");
    free(key);
    key = longer;
  }
  pthread_mutex_lock(&shared);
  size_t at = 0;
  while (at < series_count && strcmp(series[at].key, key) != 0) at++;
  if (at == series_count) {
    series = realloc(series, ++series_count * sizeof(Series));
    series[at] = (Series){key, is_gauge, 0};
  } else {
    free(key);
  }
  series[at].value = is_set ? by : series[at].value + by;
  CHECK(series[at].value >= 0, "%s is %ld", series[at].key, (long)series[at].value);
  pthread_mutex_unlock(&shared);
  return 0;
}

uint32_t envoy_dynamic_module_callback_bootstrap_extension_config_define_counter(void *on, Buffer name, const Buffer *labels,
                                                                                 size_t count, size_t *id) {
  (void)on;
  return define(name, labels, count, id, false);
}
uint32_t envoy_dynamic_module_callback_bootstrap_extension_config_define_gauge(void *on, Buffer name, const Buffer *labels,
                                                                               size_t count, size_t *id) {
  (void)on;
  return define(name, labels, count, id, true);
}

// Envoy's extension is a block, so that a call after its end is a use after free.
static char *extension;
#define CHANGE(name, is_gauge, by, is_set)                                                                               \
  uint32_t envoy_dynamic_module_callback_bootstrap_extension_config_##name(char *on, size_t id, const Buffer *values,    \
                                                                           size_t count, uint64_t amount) {              \
    CHECK(*on == 'e', "an extension");                                                                                   \
    return change(id, values, count, is_gauge, by, is_set);                                                              \
  }
CHANGE(increment_counter, false, (int64_t)amount, false)
CHANGE(increment_gauge, true, (int64_t)amount, false)
CHANGE(decrement_gauge, true, -(int64_t)amount, false)
CHANGE(set_gauge, true, (int64_t)amount, true)

uint32_t envoy_dynamic_module_callback_network_filter_config_define_counter(void *on, Buffer name, size_t *id) {
  (void)on;
  free(copy(name));
  *id = ++plain_counters;
  return 0;
}
uint32_t envoy_dynamic_module_callback_network_filter_increment_counter(Connection *on, size_t id, uint64_t by) {
  (void)by;
  return on->serial && id && id <= plain_counters ? 0 : 1;
}

int64_t metric(const char *name, const char *label) {
  int64_t sum = 0;
  size_t len = strlen(name);
  for (size_t at = 0; at < series_count; at++) {
    const char *key = series[at].key;
    if (strncmp(key, name, len) == 0 && (key[len] == ';' || !key[len]) && contains(key, label)) sum += series[at].value;
  }
  return sum;
}

static int by_key(const void *a, const void *b) { return strcmp(((const Series *)a)->key, ((const Series *)b)->key); }

char *all_metrics(void) {
  Bytes text = {0};
  qsort(series, series_count, sizeof(Series), by_key);
  for (size_t at = 0; at < series_count; at++) {
    const Series *one = &series[at];
    bool by_time = contains(one->key, "duration") || contains(one->key, "heartbeat");
    if (one->value == 0 || one->is_gauge || by_time || contains(one->key, "prepare_eof_splits")) continue;
    char *line;
    CHECK(asprintf(&line, "%s %ld\n", one->key, (long)one->value) > 0, "memory");
    append(&text, line, strlen(line));
    free(line);
  }
  append(&text, "", 1);
  return text.data;
}

void forget_counts(void) {
  for (size_t at = 0; at < series_count; at++)
    if (!series[at].is_gauge) series[at].value = 0;
}

// --- the bootstrap extension ---

typedef struct {
  bool is_running;
} Timer;

static Timer *timer;
static int timer_count;
static bool is_initialised;

void envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(char *on) {
  CHECK(*on == 'e', "an extension");
  is_initialised = true;
}
void *envoy_dynamic_module_callback_bootstrap_extension_timer_new(char *on) {
  CHECK(*on == 'e', "an extension");
  timer_count++;
  return timer = calloc(1, sizeof(Timer));
}
void envoy_dynamic_module_callback_bootstrap_extension_timer_enable(Timer *on, uint64_t milliseconds) {
  CHECK(milliseconds > 0, "a timer that fires at once");
  on->is_running = true;
}
void envoy_dynamic_module_callback_bootstrap_extension_timer_delete(Timer *on) {
  if (on == timer) timer = NULL;
  free(on);
  timer_count--;
}

int timers(void) { return timer_count; }

void start_extension(void) {
  extension = malloc(1);
  *extension = 'e';
  is_initialised = false;
  may_define = true;
  Buffer none = {NULL, 0};
  void *module = on_bootstrap_extension_config_new(extension, none, none);
  CHECK(module && is_initialised, "a started extension");
  may_define = false;
  CHECK(on_bootstrap_extension_new(module, extension), "an extension");
  on_bootstrap_extension_worker_thread_initialized(extension, extension);
  on_bootstrap_extension_server_initialized(extension, extension);
}

void end_extension(void) {
  on_bootstrap_extension_destroy(extension);
  on_bootstrap_extension_config_destroy(extension);
  free(extension);
  extension = NULL;
  CHECK(timer_count == 0, "%d timers left", timer_count);
  for (size_t at = 0; at < metric_count; at++) {
    free(metrics[at].name);
    for (size_t n = 0; n < metrics[at].label_count; n++) free(metrics[at].labels[n]);
    free(metrics[at].labels);
  }
  for (size_t at = 0; at < series_count; at++) free(series[at].key);
  free(metrics);
  free(series);
  metrics = NULL;
  series = NULL;
  metric_count = series_count = 0;
}

bool fire_timer(void) {
  if (!timer || !timer->is_running) return false;
  timer->is_running = false;
  on_bootstrap_extension_timer_fired(extension, extension, timer);
  return true;
}

void flush(void) { on_bootstrap_extension_drain_started(extension, extension); }

static void shutdown_done(void *context) { ++*(int *)context; }

void shut_down(void) {
  int *calls = calloc(1, sizeof(int));
  on_bootstrap_extension_shutdown(extension, extension, shutdown_done, calls);
  CHECK(*calls == 1, "%d calls of done", *calls);
  free(calls);
}

// --- configurations ---

void *configure(const char *name, const char *text, size_t len) {
  char *handle = malloc(1);
  Bytes of_name = block(name, strlen(name)), of_text = block(text, len);
  Buffer name_buffer = {of_name.data, of_name.len}, text_buffer = {of_text.data, of_text.len};
  void *configuration = on_network_filter_config_new(handle, name_buffer, text_buffer);
  free(of_name.data);
  free(of_text.data);
  free(handle);
  return configuration;
}

void end_configuration(void *configuration) { on_network_filter_config_destroy(configuration); }

// --- connections ---

static Connection *connections;
static uint64_t last_serial;

Connection *new_connection(void *configuration, uint32_t worker) {
  Connection *connection = calloc(1, sizeof(Connection));
  connection->worker = worker;
  LOCKED(connection->serial = ++last_serial);
  connection->module = on_network_filter_new(configuration, connection);
  CHECK(connection->module, "a filter");
  LOCKED(connection->next = connections; connections = connection);
  return connection;
}

void open_connection(Connection *connection) {
  connection->opened = true;
  connection->stopped = on_network_filter_new_connection(connection, connection->module) == STOP;
}

static void forget_text(Connection *connection) {
  free(connection->text);
  connection->text = NULL;
}

static bool text(Connection *connection, const char *value, Buffer *to) {
  forget_text(connection);
  Bytes bytes = block(value, strlen(value));
  connection->text = bytes.data;
  *to = (Buffer){bytes.data, bytes.len};
  return true;
}

static Bytes flatten(Connection *connection, int sender) {
  Bytes all = {0};
  for (size_t n = 0; n < connection->slice_count[sender]; n++) {
    append(&all, connection->slices[sender][n].data, connection->slices[sender][n].len);
    free(connection->slices[sender][n].data);
  }
  free(connection->slices[sender]);
  connection->slices[sender] = NULL;
  connection->slice_count[sender] = 0;
  return all;
}

static void add_slice(Connection *connection, int sender, const char *data, size_t len) {
  size_t count = ++connection->slice_count[sender];
  connection->slices[sender] = realloc(connection->slices[sender], count * sizeof(Bytes));
  connection->slices[sender][count - 1] = block(data, len);
}

// Cuts bytes into slices of different lengths. Some are empty.
static void slice(Connection *connection, int sender, Bytes bytes) {
  static const size_t lengths[] = {1, 3, 0, 7, 64, 2, 4096};
  size_t at = 0;
  for (size_t n = 0; at < bytes.len; n++) {
    size_t len = lengths[n % 7] < bytes.len - at ? lengths[n % 7] : bytes.len - at;
    add_slice(connection, sender, bytes.data + at, len);
    at += len;
  }
}

void feed(Connection *connection, int sender, const char *data, size_t len, bool end) {
  if (connection->closed) return;
  Bytes *held = &connection->held[sender];
  append(held, data, len);
  // Envoy reads nothing from the client of a connection that a filter has stopped.
  if (connection->stopped && sender == CLIENT) return;
  slice(connection, sender, *held);
  size_t total = held->len;
  free(held->data);
  *held = (Bytes){0};
  connection->in_hook[sender] = true;
  uint32_t status = sender == CLIENT ? on_network_filter_read(connection, connection->module, total, end)
                                     : on_network_filter_write(connection, connection->module, total, end);
  connection->in_hook[sender] = false;
  forget_text(connection);
  Bytes rest = flatten(connection, sender);
  append(status == STOP ? held : &connection->forwarded[sender], rest.data, rest.len);
  free(rest.data);
  if (connection->due) {
    connection->due = false;
    feed(connection, CLIENT, "", 0, end && sender == CLIENT);
  }
}

void event(Connection *connection, uint32_t which) {
  connection->closed = true;
  connection->ended = true;
  on_network_filter_event(connection, connection->module, which);
  forget_text(connection);
}

void destroy(Connection *connection) {
  LOCKED(Connection **at = &connections; while (*at != connection) at = &(*at)->next; *at = connection->next);
  on_network_filter_destroy(connection->module);
  forget_text(connection);
  for (int sender = CLIENT; sender <= SERVER; sender++) {
    free(flatten(connection, sender).data);
    free(connection->held[sender].data);
    free(connection->forwarded[sender].data);
  }
  free(connection);
}

#define SLICES(of, sender)                                                                                     \
  size_t envoy_dynamic_module_callback_network_filter_get_##of##_buffer_chunks_size(Connection *on) {          \
    forget_text(on);                                                                                           \
    return on->in_hook[sender] ? on->slice_count[sender] : 0;                                                  \
  }                                                                                                            \
  bool envoy_dynamic_module_callback_network_filter_get_##of##_buffer_chunks(Connection *on, Buffer *to) {     \
    if (!on->in_hook[sender]) return false;                                                                    \
    for (size_t n = 0; n < on->slice_count[sender]; n++)                                                       \
      to[n] = (Buffer){on->slices[sender][n].data, on->slices[sender][n].len};                                 \
    return true;                                                                                               \
  }                                                                                                            \
  bool envoy_dynamic_module_callback_network_filter_drain_##of##_buffer(Connection *on, size_t len) {          \
    return edit(on, sender, len, (Buffer){NULL, 0});                                                           \
  }                                                                                                            \
  bool envoy_dynamic_module_callback_network_filter_prepend_##of##_buffer(Connection *on, Buffer data) {       \
    return edit(on, sender, 0, data);                                                                          \
  }

// The old slices end, because Envoy may move the bytes.
static bool edit(Connection *on, int sender, size_t drain, Buffer prepend) {
  if (!on->in_hook[sender] || (drain == 0 && prepend.len == 0)) return false;
  Bytes old = flatten(on, sender);
  CHECK(drain <= old.len, "drain %zu of %zu", drain, old.len);
  if (prepend.len) add_slice(on, sender, prepend.data, prepend.len);
  add_slice(on, sender, old.data + drain, old.len - drain);
  free(old.data);
  return true;
}
SLICES(read, CLIENT)
SLICES(write, SERVER)

void envoy_dynamic_module_callback_network_filter_continue_reading(Connection *on) {
  on->stopped = false;
  append(&on->forwarded[CLIENT], on->held[CLIENT].data, on->held[CLIENT].len);
  free(on->held[CLIENT].data);
  on->held[CLIENT] = (Bytes){0};
}

void envoy_dynamic_module_callback_network_filter_inject_read_data(Connection *on, Buffer data, bool end) {
  CHECK(!end && data.len > 0, "%zu bytes", data.len);
  append(&on->forwarded[CLIENT], data.data, data.len);
}
void envoy_dynamic_module_callback_network_filter_inject_write_data(Connection *on, Buffer data, bool end) {
  CHECK(!end && data.len > 0, "%zu bytes", data.len);
  append(&on->forwarded[SERVER], data.data, data.len);
}
uint32_t envoy_dynamic_module_callback_network_filter_read_disable(Connection *on, bool disable) {
  on->due = !disable;
  return 0;
}
bool envoy_dynamic_module_callback_network_filter_start_upstream_secure_transport(Connection *on) {
  CHECK(!on->tls, "TLS starts once");
  on->tls = true;
  return true;
}

bool envoy_dynamic_module_callback_network_filter_is_ssl(Connection *on) {
  (void)on;
  return false;
}

// Envoy calls the hook about the close during this call.
void envoy_dynamic_module_callback_network_filter_close(Connection *on, uint32_t how) {
  CHECK(how <= 4, "a way to close, not %u", how);
  if (!on->ended) event(on, LOCAL_CLOSE);
}

static bool address(Connection *on, const char *value, Buffer *to, uint32_t *port, uint32_t number) {
  *port = number;
  return text(on, value, to);
}
bool envoy_dynamic_module_callback_network_filter_get_remote_address(Connection *on, Buffer *to, uint32_t *port) {
  return address(on, "127.0.0.1", to, port, 40000);
}
bool envoy_dynamic_module_callback_network_filter_get_local_address(Connection *on, Buffer *to, uint32_t *port) {
  return address(on, "::1", to, port, 3306);
}
bool envoy_dynamic_module_callback_network_filter_get_upstream_host_address(Connection *on, Buffer *to, uint32_t *port) {
  return address(on, "10.1.2.3", to, port, 3306);
}
bool envoy_dynamic_module_callback_network_filter_get_upstream_host_cluster(Connection *on, Buffer *to) {
  return text(on, "orders", to);
}
bool envoy_dynamic_module_callback_network_filter_get_attribute_int(Connection *on, uint32_t attribute, uint64_t *to) {
  *to = on->serial && attribute == 59 ? 1 : 0;
  return true;
}
bool envoy_dynamic_module_callback_network_filter_get_attribute_string(Connection *on, uint32_t attribute, Buffer *to) {
  return attribute == 57 && text(on, "orders", to);
}
bool envoy_dynamic_module_callback_network_set_filter_state_bytes(Connection *on, Buffer key, Buffer value) {
  forget_text(on);
  free(copy(key));
  free(block(value.data, value.len).data);
  return true;
}
uint32_t envoy_dynamic_module_callback_network_filter_get_worker_index(Connection *on) { return on->worker; }
// The module asks only whether this function of Envoy 1.40 exists.
bool envoy_dynamic_module_callback_network_filter_start_downstream_secure_transport(Connection *on) {
  (void)on;
  return false;
}

// --- scheduled events ---

typedef struct {
  uint64_t serial;
  uint32_t worker;
} Scheduler;

static Scheduler posted[4096];
static size_t posted_count;
static int scheduler_count;

void *envoy_dynamic_module_callback_network_filter_scheduler_new(Connection *on) {
  Scheduler *scheduler = malloc(sizeof(Scheduler));
  *scheduler = (Scheduler){on->serial, on->worker};
  LOCKED(scheduler_count++);
  return scheduler;
}
void envoy_dynamic_module_callback_network_filter_scheduler_commit(Scheduler *on, uint64_t number) {
  CHECK(number == 0, "event %lu", (unsigned long)number);
  LOCKED(if (posted_count < 4096) posted[posted_count++] = *on);
}
void envoy_dynamic_module_callback_network_filter_scheduler_delete(Scheduler *on) {
  free(on);
  LOCKED(scheduler_count--);
}

int schedulers(void) { return scheduler_count; }

void deliver(uint32_t worker) {
  for (;;) {
    Connection *found = NULL;
    bool any = false;
    pthread_mutex_lock(&shared);
    for (size_t at = 0; at < posted_count && !any; at++) {
      if (posted[at].worker != worker) continue;
      any = true;
      for (found = connections; found && found->serial != posted[at].serial;) found = found->next;
      posted[at] = posted[--posted_count];
    }
    pthread_mutex_unlock(&shared);
    if (!any) return;
    // An event for a connection that has gone is dropped.
    if (found) on_network_filter_scheduled(found, found->module, 0);
  }
}

void load_module(const char *path) {
  void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CHECK(module, "%s", dlerror());
#define FIND(result, name, arguments)                                 \
  on_##name = dlsym(module, "envoy_dynamic_module_on_" #name);        \
  CHECK(on_##name, "a hook on_%s", #name);
  HOOKS(FIND)
#undef FIND
  const char *version = on_program_init();
  CHECK(version && strcmp(version, "v0.2.0") == 0, "version %s", version ? version : "none");
}
