// A fake Envoy for the native module: the functions that Envoy exports to it, and the objects behind them.
//
// Memory lives exactly as long as Envoy promises, and no longer: a slice of a buffer until the hook returns or the buffer
// changes, a text until the next call about its connection, an object until its end. Each is a block of its own without a NUL
// after it. So AddressSanitizer reports each read after the end, in space and in time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  const char *data;
  size_t len;
} Buffer;

enum { CLIENT, SERVER };
enum { CONTINUE, STOP };
enum { REMOTE_CLOSE, LOCAL_CLOSE };

typedef struct {
  char *data;
  size_t len;
} Bytes;

// One connection in the fake Envoy.
typedef struct Connection {
  void *module;
  uint64_t serial;
  uint32_t worker;
  // Bytes of a sender that the current hook is about, in slices. `slices[n]` is a block of its own.
  Bytes *slices[2];
  size_t slice_count[2];
  bool in_hook[2];
  // Bytes that the filter has stopped, and bytes that it has forwarded.
  Bytes held[2], forwarded[2];
  bool opened, stopped, closed, ended;
  // True if the client's held bytes are delivered again in the next turn. True if TLS to the server has started.
  bool due, tls;
  // The text that the last call returned.
  char *text;
  struct Connection *next;
} Connection;

// Hooks of the module, by the names of Envoy's ABI.
#define HOOKS(X)                                                                                  \
  X(const char *, program_init, (void))                                                           \
  X(void *, network_filter_config_new, (void *, Buffer, Buffer))                                  \
  X(void, network_filter_config_destroy, (void *))                                                \
  X(void *, network_filter_new, (void *, void *))                                                 \
  X(uint32_t, network_filter_new_connection, (void *, void *))                                    \
  X(uint32_t, network_filter_read, (void *, void *, size_t, bool))                                \
  X(uint32_t, network_filter_write, (void *, void *, size_t, bool))                               \
  X(void, network_filter_event, (void *, void *, uint32_t))                                       \
  X(void, network_filter_scheduled, (void *, void *, uint64_t))                                   \
  X(void, network_filter_destroy, (void *))                                                       \
  X(void *, bootstrap_extension_config_new, (void *, Buffer, Buffer))                             \
  X(void, bootstrap_extension_config_destroy, (void *))                                           \
  X(void *, bootstrap_extension_new, (void *, void *))                                            \
  X(void, bootstrap_extension_destroy, (void *))                                                  \
  X(void, bootstrap_extension_server_initialized, (void *, void *))                               \
  X(void, bootstrap_extension_worker_thread_initialized, (void *, void *))                        \
  X(void, bootstrap_extension_timer_fired, (void *, void *, void *))                              \
  X(void, bootstrap_extension_drain_started, (void *, void *))                                    \
  X(void, bootstrap_extension_shutdown, (void *, void *, void (*)(void *), void *))

#define DECLARE(result, name, arguments) extern result(*on_##name) arguments;
HOOKS(DECLARE)
#undef DECLARE

#define CHECK(condition, ...)                                 \
  do {                                                        \
    if (!(condition)) fail(__FILE__, __LINE__, #condition, __VA_ARGS__); \
  } while (0)
void fail(const char *file, int line, const char *condition, const char *format, ...);

// Loads the module and starts it.
void load_module(const char *path);

// The bootstrap extension. Its end frees all that the fake Envoy keeps for it.
void start_extension(void);
void end_extension(void);
// Calls the hook of the timer if the timer is running. Returns whether it was.
bool fire_timer(void);
// Makes the module export its counts.
void flush(void);
void shut_down(void);

// Reads a configuration. Null if the module refuses it.
void *configure(const char *name, const char *text, size_t len);
void end_configuration(void *configuration);

// A connection of a worker, before its first hook. Null if the module refuses it.
Connection *new_connection(void *configuration, uint32_t worker);
void open_connection(Connection *connection);
// Passes bytes of a sender, if the connection is open.
void feed(Connection *connection, int sender, const char *data, size_t len, bool end);
void event(Connection *connection, uint32_t which);
void destroy(Connection *connection);
// Calls the hook about scheduled events of this worker.
void deliver(uint32_t worker);

// Sum of all series of a metric of the extension whose labels contain this text.
int64_t metric(const char *name, const char *label);
// Text with all counters that do not depend on time or on cuts. The caller frees it.
char *all_metrics(void);
// Sets all counters to zero. A gauge stays.
void forget_counts(void);
// Number of log lines with this text since the last `forget_log`.
int logged(const char *text);
void forget_log(void);
// Number of objects that the module has created and not deleted.
int schedulers(void);
int timers(void);

void append(Bytes *to, const char *data, size_t len);
