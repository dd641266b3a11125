/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What tine.h declares, for what parses C without being a C compiler: enums and plain prototypes. Made by `make header`.
 * TINE_FOREVER, which is no int, is 9223372036854775807. Beside each field stands its offset in bytes; see docs/ffi.md.
 */

enum {
    TINE_VERSION_MAJOR = 0,
    TINE_VERSION_MINOR = 1,
    TINE_VERSION_PATCH = 0,
    TINE_ERROR_TEXT = 240,
    TINE_INTERRUPTIBLE = 1,
    TINE_ENOINIT = -5001,
    TINE_EWORKERSTART = -5002,
    TINE_EDIED = -5003,
    TINE_EBADCODE = -5004,
    TINE_EITEMS = -5005,
    TINE_EFUNCTION = -5006,
    TINE_EMODULE = -5007,
    TINE_ENAME = -5008,
    TINE_EID = -5009,
    TINE_ESHUTDOWN = -5010,
    TINE_EFORKED = -5011,
    TINE_EWORKER = -5012,
    TINE_EEMPTY = -5013,
    TINE_EVERSION = -5014,
    TINE_EBROKEN = -5015,
    TINE_EMEMORY = -5016,
    TINE_EPANIC = -5017,
    TINE_ELATE = -5018,
    TINE_LOG_ERROR = 0,
    TINE_LOG_WARNING = 1,
    TINE_AFFINITY_NONE = 0,
    TINE_AFFINITY_COMPACT = 1,
    TINE_AFFINITY_SPREAD = 2,
    TINE_OUTPUT_INHERIT = 0,
    TINE_OUTPUT_CAPTURE = 1,
    TINE_OUTPUT_NULL = 2,
    TINE_ENGINE_DEFAULT = 0,
    TINE_ENGINE_LOCAL = 1,
    TINE_ENGINE_MPI = 2,
    TINE_ENGINE_MPI_OR_LOCAL = 3,
    TINE_TRANSPORT_VERSION = 3,
    TINE_START_FORKSERVER = 0,
    TINE_START_SPAWN = 1,
    TINE_START_FORK = 2,
    TINE_CORE_FILES = 512,
    TINE_NO_CRASH_HANDLER = 1024,
    TINE_INLINE = 2048,
    TINE_NO_THREAD = 4096,
    TINE_MAX_WORKERS = 4096,
    TINE_RAN = 0,
    TINE_NOT_STARTED = 1,
    TINE_MAYBE_RAN = 2,
    TINE_IDEMPOTENT = 65536,
    TINE_STOP_ON_FAILURE = 131072,
    TINE_SCHEDULE_MEASURED = 0,
    TINE_SCHEDULE_STATIC = 1,
    TINE_SCHEDULE_GUIDED = 2,
    TINE_UNORDERED = 262144,
    TINE_SEGMENT_READ_ONLY = 16777216,
    TINE_SEGMENT_HUGE_PAGES = 33554432,
    TINE_SEGMENT_ANY_ADDRESS = 67108864,
    TINE_SEGMENT_POPULATE = 134217728,
    TINE_RECURSIVE = 2,
    TINE_PROCESS_OWNED = 4,
    TINE_AUTO_REPAIR = 8,
    TINE_AUTO_RESET = 16,
    TINE_PREFER_READERS = 32,
    TINE_MOST_HELD = 128,
    TINE_RWLOCK_READERS = 15,
    TINE_BARRIER_PARTIES = 128,
    TINE_MOST_MESSAGES = 67108864,
    TINE_DETACHED = 524288,
};

typedef struct tine_pool tine_pool;
typedef struct tine_task tine_task;
typedef struct tine_channel tine_channel;
typedef void (*tine_log_fn)(int level, const char *text, void *user);
typedef struct tine_error {
    unsigned long size; /* 0 */
    int code; /* 8 */
    char text[240]; /* 12 */
} tine_error; /* 256 */
const char *tine_strerror(int rc);
const char *tine_errname(int rc);
const char *tine_version(void);
void tine_set_log(tine_log_fn log, void *user);
typedef int (*tine_fn)(tine_task *task);
int tine_register(const char *name, tine_fn fn);
int tine_init(int argc, char **argv);
_Bool tine_in_worker(void);
const char *tine_worker_path(void);
typedef struct tine_limit {
    int resource; /* 0 */
    unsigned long soft; /* 8 */
    unsigned long hard; /* 16 */
} tine_limit; /* 24 */
typedef struct tine_worker_options {
    unsigned long size; /* 0 */
    const char *const *environment; /* 8 */
    const char *directory; /* 16 */
    unsigned int library_threads; /* 24 */
    int nice; /* 28 */
    int oom_score_adj; /* 32 */
    int affinity; /* 36 */
    const unsigned int *processors; /* 40 */
    unsigned long processor_count; /* 48 */
    const tine_limit *limits; /* 56 */
    unsigned long limit_count; /* 64 */
    int output; /* 72 */
    const char *output_path; /* 80 */
} tine_worker_options; /* 88 */
typedef struct tine_faults {
    unsigned long size; /* 0 */
    unsigned long seed; /* 8 */
    unsigned long kill_start; /* 16 */
    unsigned long kill_call; /* 24 */
    unsigned long kill_return; /* 32 */
    unsigned long delay_call; /* 40 */
    long delay_ns; /* 48 */
    unsigned long fail_alloc; /* 56 */
} tine_faults; /* 64 */
typedef struct tine_transport {
    unsigned long size; /* 0 */
    unsigned int version; /* 8 */
    const char *name; /* 16 */
    int (*started)(void); /* 24 */
    int (*start)(int *rank, int *ranks, void (*part)(void)); /* 32 */
    int (*send)(int rank, const void *data, unsigned long length, void **sending); /* 40 */
    int (*probe)(int *rank, unsigned long *length, void **message); /* 48 */
    int (*receive)(void *message, void *data, unsigned long length, void **receiving); /* 56 */
    int (*done)(void *moving); /* 64 */
    int (*stop)(void); /* 72 */
    void (*abort)(int code); /* 80 */
} tine_transport; /* 88 */
int tine_transport_register(const tine_transport *transport);
typedef struct tine_pool_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    unsigned long workers; /* 16 */
    int start; /* 24 */
    unsigned int flags; /* 28 */
    long deadline_ns; /* 32 */
    long grace_ns; /* 40 */
    int cancel_signal; /* 48 */
    unsigned int max_tasks_per_worker; /* 52 */
    long recycle_age_ns; /* 56 */
    unsigned long recycle_bytes; /* 64 */
    unsigned long max_worker_bytes; /* 72 */
    const tine_worker_options *worker; /* 80 */
    long start_timeout_ns; /* 88 */
    const char *worker_path; /* 96 */
    const char *const *worker_arguments; /* 104 */
    const char *preload; /* 112 */
    unsigned long heap_bytes; /* 120 */
    unsigned long window_tasks; /* 128 */
    unsigned long window_bytes; /* 136 */
    tine_fn initializer; /* 144 */
    const void *initializer_input; /* 152 */
    unsigned long initializer_length; /* 160 */
    tine_fn finalizer; /* 168 */
    unsigned long min_workers; /* 176 */
    long idle_timeout_ns; /* 184 */
    int engine; /* 192 */
    const tine_faults *faults; /* 200 */
} tine_pool_options; /* 208 */
typedef struct tine_stats {
    unsigned long size; /* 0 */
    unsigned long workers; /* 8 */
    unsigned long workers_ready; /* 16 */
    unsigned long submitted; /* 24 */
    unsigned long settled; /* 32 */
    unsigned long outstanding; /* 40 */
    unsigned long worker_deaths; /* 48 */
    unsigned long workers_recycled; /* 56 */
    unsigned long supervisor_deaths; /* 64 */
    unsigned long heap_reserved_bytes; /* 72 */
    unsigned long heap_allocated_bytes; /* 80 */
    unsigned long items_settled; /* 88 */
    unsigned long items_failed; /* 96 */
    unsigned long workers_busy; /* 104 */
    unsigned long waiting; /* 112 */
} tine_stats; /* 120 */
int tine_pool_create(const tine_pool_options *options, tine_pool **out);
int tine_pool_shutdown(tine_pool *pool, long timeout_ns);
void tine_pool_destroy(tine_pool *pool);
int tine_pool_fd(tine_pool *pool);
int tine_pool_poll(tine_pool *pool);
int tine_pool_stats(tine_pool *pool, tine_stats *out);
int tine_stats_text(tine_pool *const *pools, const char *const *names, unsigned long count, char *buffer,
    unsigned long capacity, unsigned long *length);
typedef struct tine_death {
    unsigned long size; /* 0 */
    int pid; /* 8 */
    int signal; /* 12 */
    int code; /* 16 */
    void *fault_address; /* 24 */
    unsigned long max_rss_bytes; /* 32 */
    const char *backtrace; /* 40 */
    unsigned long user_ns; /* 48 */
    unsigned long system_ns; /* 56 */
    int out_of_memory; /* 64 */
    unsigned long task; /* 72 */
    unsigned long item; /* 80 */
    const char *function; /* 88 */
    const char *output; /* 96 */
    unsigned long output_length; /* 104 */
} tine_death; /* 112 */
int tine_death_print(const tine_death *death, int fd);
typedef unsigned long tine_id;
typedef struct tine_result {
    unsigned long size; /* 0 */
    tine_id id; /* 8 */
    int status; /* 16 */
    int delivery; /* 20 */
    const char *message; /* 24 */
    const void *data; /* 32 */
    unsigned long length; /* 40 */
    const tine_death *death; /* 48 */
    unsigned int deaths; /* 56 */
    void *user; /* 64 */
} tine_result; /* 72 */
typedef struct tine_submit_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    const char *name; /* 16 */
    long deadline_ns; /* 24 */
    long queue_deadline_ns; /* 32 */
    long timeout_ns; /* 40 */
    unsigned int retries; /* 48 */
    unsigned int flags; /* 52 */
    void *user; /* 56 */
    void (*on_begin)(tine_id id, int pid, void *user); /* 64 */
    void (*on_settled)(const tine_result *result, void *user); /* 72 */
    tine_channel *channel; /* 80 */
} tine_submit_options; /* 88 */
int tine_submit(tine_pool *pool, tine_fn fn, const void *input, unsigned long length,
    const tine_submit_options *options, tine_id *out);
int tine_wait(tine_pool *pool, tine_id id, long timeout_ns, tine_result *out);
int tine_next(tine_pool *pool, long timeout_ns, tine_result *out);
int tine_cancel(tine_pool *pool, tine_id id);
int tine_cancel_all(tine_pool *pool);
int tine_cancel_queued(tine_pool *pool);
int tine_wait_any(tine_pool *pool, const tine_id *ids, unsigned long count, long timeout_ns, tine_result *out);
int tine_wait_all(tine_pool *pool, const tine_id *ids, unsigned long count, long timeout_ns);
void tine_result_release(tine_pool *pool, tine_result *result);
typedef int (*tine_item_fn)(tine_task *task, const void *in, void *out);
typedef struct tine_map_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    const char *name; /* 16 */
    const void *context; /* 24 */
    unsigned long context_length; /* 32 */
    unsigned long chunk; /* 40 */
    int *status; /* 48 */
    long item_deadline_ns; /* 56 */
    unsigned int retries; /* 64 */
    unsigned int flags; /* 68 */
    void (*on_failure)(const tine_result *result, unsigned long item, void *user); /* 72 */
    void (*progress)(unsigned long done, unsigned long total, void *user); /* 80 */
    void *user; /* 88 */
    int schedule; /* 96 */
    unsigned long chunk_bytes; /* 104 */
} tine_map_options; /* 112 */
typedef int (*tine_range_fn)(tine_task *task, unsigned long begin, unsigned long end);
int tine_map(tine_pool *pool, tine_item_fn fn, const void *in, unsigned long in_stride, void *out, unsigned long out_stride,
    unsigned long count, const tine_map_options *options);
int tine_for(tine_pool *pool, tine_range_fn fn, unsigned long begin, unsigned long end, const tine_map_options *options);
typedef struct tine_progress {
    unsigned long size; /* 0 */
    const char *label; /* 8 */
    int fd; /* 16 */
    unsigned long failed; /* 24 */
    unsigned long began_ns; /* 32 */
    unsigned long drawn_ns; /* 40 */
    unsigned long shown; /* 48 */
} tine_progress; /* 56 */
void tine_progress_bar(unsigned long done, unsigned long total, void *user);
typedef struct tine_stream tine_stream;
typedef struct tine_stream_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    const char *name; /* 16 */
    unsigned long window_tasks; /* 24 */
    unsigned long window_bytes; /* 32 */
    long item_deadline_ns; /* 40 */
    unsigned int retries; /* 48 */
    unsigned int flags; /* 52 */
    int (*pull)(void *user, const void **input, unsigned long *length, void **item); /* 56 */
    void *user; /* 64 */
} tine_stream_options; /* 72 */
int tine_stream_create(tine_pool *pool, tine_fn fn, const tine_stream_options *options, tine_stream **out);
int tine_stream_put(tine_stream *stream, const void *input, unsigned long length, void *user, long timeout_ns);
int tine_stream_end(tine_stream *stream);
int tine_stream_next(tine_stream *stream, long timeout_ns, tine_result *out);
void tine_stream_destroy(tine_stream *stream);
const void *tine_input(const tine_task *task, unsigned long *length);
const void *tine_context(const tine_task *task, unsigned long *length);
void *tine_output(tine_task *task, unsigned long length);
unsigned long tine_task_id(const tine_task *task);
const char *tine_task_name(const tine_task *task);
void tine_set_worker_state(tine_task *task, void *state);
void *tine_worker_state(const tine_task *task);
_Bool tine_cancelled(const tine_task *task);
tine_pool *tine_task_pool(const tine_task *task);
int tine_fail(tine_task *task, int code, const char *format, ...);
void *tine_alloc(tine_pool *pool, unsigned long size);
void *tine_calloc(tine_pool *pool, unsigned long count, unsigned long size);
void *tine_alloc_aligned(tine_pool *pool, unsigned long alignment, unsigned long size);
void *tine_realloc(tine_pool *pool, void *block, unsigned long size);
void tine_free(tine_pool *pool, void *block);
unsigned long tine_block_size(tine_pool *pool, const void *block);
int tine_is_shared(tine_pool *pool, const void *pointer, unsigned long length);
typedef struct tine_segment tine_segment;
typedef struct tine_segment_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    unsigned int flags; /* 16 */
} tine_segment_options; /* 24 */
int tine_segment_create(unsigned long size, const tine_segment_options *options, tine_segment **out);
int tine_segment_attach(int fd, const tine_segment_options *options, tine_segment **out);
void *tine_segment_address(const tine_segment *s);
unsigned long tine_segment_size(const tine_segment *s);
int tine_segment_fd(const tine_segment *s);
int tine_segment_close(tine_segment *s);
int tine_segment_send(int socket, const tine_segment *s);
int tine_segment_receive(int socket, const tine_segment_options *options, tine_segment **out);
int tine_pool_share(tine_pool *pool, tine_segment *s, long timeout_ns);
typedef struct tine_heap tine_heap;
typedef struct tine_heap_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
} tine_heap_options; /* 16 */
typedef struct tine_heap_info {
    unsigned long size; /* 0 */
    unsigned long reserved_bytes; /* 8 */
    unsigned long peak_bytes; /* 16 */
    unsigned long used_bytes; /* 24 */
    unsigned long used_blocks; /* 32 */
} tine_heap_info; /* 40 */
typedef struct tine_heap_usage {
    unsigned long size; /* 0 */
    int pid; /* 8 */
    int alive; /* 12 */
    unsigned long bytes; /* 16 */
    unsigned long blocks; /* 24 */
} tine_heap_usage; /* 32 */
typedef int (*tine_heap_usage_fn)(const tine_heap_usage *usage, void *user);
typedef int (*tine_heap_block_fn)(void *block, unsigned long length, void *user);
tine_heap *tine_pool_heap(tine_pool *pool);
tine_heap *tine_heap_find(const void *address);
void *tine_heap_tag(tine_heap *heap, void *tag);
int tine_heap_create(tine_segment *s, const tine_heap_options *options, tine_heap **out);
int tine_heap_attach(tine_segment *s, const tine_heap_options *options, tine_heap **out);
int tine_heap_close(tine_heap *heap);
void *tine_heap_alloc(tine_heap *heap, unsigned long size);
void *tine_heap_calloc(tine_heap *heap, unsigned long count, unsigned long size);
void *tine_heap_alloc_aligned(tine_heap *heap, unsigned long alignment, unsigned long size);
void *tine_heap_realloc(tine_heap *heap, void *block, unsigned long size);
int tine_heap_free(tine_heap *heap, void *block);
unsigned long tine_heap_block_size(tine_heap *heap, const void *block);
int tine_heap_contains(tine_heap *heap, const void *pointer, unsigned long length);
int tine_heap_stats(tine_heap *heap, tine_heap_info *out);
int tine_heap_processes(tine_heap *heap, tine_heap_usage_fn visit, void *user);
int tine_heap_blocks(tine_heap *heap, int pid, tine_heap_block_fn visit, void *user);
int tine_heap_release_process(tine_heap *heap, int pid);
int tine_heap_trim(tine_heap *heap);
typedef struct tine_mutex {
    unsigned long opaque[8]; /* 0 */
} tine_mutex; /* 64 */
typedef struct tine_owner {
    unsigned long size; /* 0 */
    int pid; /* 8 */
    int tid; /* 12 */
    unsigned long start_time; /* 16 */
    int dead_pid; /* 24 */
    int dead_tid; /* 28 */
} tine_owner; /* 32 */
int tine_mutex_init(tine_mutex *m, unsigned int flags);
int tine_mutex_lock(tine_mutex *m, long timeout_ns);
int tine_mutex_unlock(tine_mutex *m);
int tine_mutex_repair(tine_mutex *m);
int tine_mutex_reopen(tine_mutex *m);
int tine_mutex_owner(const tine_mutex *m, tine_owner *out);
typedef struct tine_rwlock {
    unsigned long opaque[128]; /* 0 */
} tine_rwlock; /* 1024 */
int tine_rwlock_init(tine_rwlock *l, unsigned int flags);
int tine_rwlock_read_lock(tine_rwlock *l, long timeout_ns);
int tine_rwlock_write_lock(tine_rwlock *l, long timeout_ns);
int tine_rwlock_unlock(tine_rwlock *l);
int tine_rwlock_repair(tine_rwlock *l);
int tine_rwlock_reopen(tine_rwlock *l);
typedef struct tine_semaphore {
    unsigned long opaque[8]; /* 0 */
} tine_semaphore; /* 64 */
typedef struct tine_condition {
    unsigned long opaque[8]; /* 0 */
} tine_condition; /* 64 */
typedef struct tine_event {
    unsigned long opaque[8]; /* 0 */
} tine_event; /* 64 */
int tine_semaphore_init(tine_semaphore *s, unsigned int value, unsigned int max, unsigned int flags);
int tine_semaphore_acquire(tine_semaphore *s, long timeout_ns);
int tine_semaphore_release(tine_semaphore *s, unsigned int n);
int tine_semaphore_value(const tine_semaphore *s);
int tine_condition_init(tine_condition *c, unsigned int flags);
int tine_condition_wait(tine_condition *c, tine_mutex *m, long timeout_ns);
int tine_condition_notify(tine_condition *c, unsigned int n);
int tine_condition_notify_all(tine_condition *c);
int tine_event_init(tine_event *e, unsigned int flags);
int tine_event_set(tine_event *e);
int tine_event_clear(tine_event *e);
int tine_event_is_set(const tine_event *e);
int tine_event_wait(tine_event *e, long timeout_ns);
int tine_event_cleared(const tine_event *e);
int tine_event_wait_after(tine_event *e, int cleared, long timeout_ns);
typedef struct tine_barrier {
    unsigned long opaque[648]; /* 0 */
} tine_barrier; /* 5184 */
typedef struct tine_once {
    unsigned long opaque[8]; /* 0 */
} tine_once; /* 64 */
int tine_barrier_init(tine_barrier *b, unsigned int parties, unsigned int flags);
int tine_barrier_wait(tine_barrier *b, long timeout_ns);
int tine_barrier_reset(tine_barrier *b);
int tine_barrier_abort(tine_barrier *b);
int tine_barrier_broken(const tine_barrier *b);
int tine_barrier_parties(const tine_barrier *b);
int tine_barrier_waiting(const tine_barrier *b);
int tine_once_call(tine_once *o, int (*initializer)(void *user), void *user, long timeout_ns);
int tine_once_reopen(tine_once *o);
typedef struct tine_queue tine_queue;
typedef struct tine_queue_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    unsigned long capacity_messages; /* 16 */
    unsigned long capacity_bytes; /* 24 */
    unsigned int flags; /* 32 */
    unsigned int reserved; /* 36 */
    tine_heap *heap; /* 40 */
} tine_queue_options; /* 48 */
int tine_queue_create(tine_pool *pool, const tine_queue_options *options, tine_queue **out);
void tine_queue_destroy(tine_queue *q);
int tine_queue_put(tine_queue *q, const void *data, unsigned long length, long timeout_ns);
int tine_queue_get(tine_queue *q, long timeout_ns, void *buffer, unsigned long capacity, unsigned long *length);
int tine_queue_close(tine_queue *q);
unsigned long tine_queue_count(const tine_queue *q);
_Bool tine_queue_is_empty(const tine_queue *q);
int tine_queue_task_done(tine_queue *q);
int tine_queue_join(tine_queue *q, long timeout_ns);
int tine_queue_fd(tine_queue *q);
int tine_queue_put_many(tine_queue *q, const void *data, const unsigned long *lengths, unsigned long count, long timeout_ns);
int tine_queue_get_many(tine_queue *q, long timeout_ns, void *buffer, unsigned long capacity, unsigned long *lengths,
    unsigned long count);
int tine_queue_reserve(tine_queue *q, unsigned long length, long timeout_ns, void **out);
int tine_queue_commit(tine_queue *q, unsigned long length);
int tine_queue_abandon(tine_queue *q);
int tine_queue_peek(tine_queue *q, long timeout_ns, void **out, unsigned long *length);
int tine_queue_release(tine_queue *q);
_Bool tine_queue_is_full(const tine_queue *q);
_Bool tine_queue_is_closed(const tine_queue *q);
typedef struct tine_channel_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    unsigned long buffer_bytes; /* 16 */
    unsigned int flags; /* 24 */
    unsigned int reserved; /* 28 */
} tine_channel_options; /* 32 */
int tine_channel_create(const tine_channel_options *options, tine_channel **a, tine_channel **b);
int tine_channel_attach(int fd, const tine_channel_options *options, tine_channel **out);
void tine_channel_close(tine_channel *c);
int tine_channel_send(tine_channel *c, const void *data, unsigned long length, long timeout_ns);
int tine_channel_receive(tine_channel *c, long timeout_ns, void *buffer, unsigned long capacity, unsigned long *length);
int tine_channel_send_fd(tine_channel *c, int fd, long timeout_ns);
int tine_channel_receive_fd(tine_channel *c, long timeout_ns, int *fd);
int tine_channel_fd(const tine_channel *c);
tine_channel *tine_task_channel(const tine_task *task);
int tine_channel_reserve(tine_channel *c, unsigned long length, long timeout_ns, void **out);
int tine_channel_commit(tine_channel *c, unsigned long length, long timeout_ns);
int tine_channel_abandon(tine_channel *c);
int tine_channel_peek(tine_channel *c, long timeout_ns, void **out, unsigned long *length);
int tine_channel_release(tine_channel *c);
typedef struct tine_process tine_process;
typedef struct tine_process_options {
    unsigned long size; /* 0 */
    tine_error *error; /* 8 */
    const char *name; /* 16 */
    int start; /* 24 */
    unsigned int flags; /* 28 */
    const char *title; /* 32 */
    long deadline_ns; /* 40 */
    long grace_ns; /* 48 */
    tine_channel *channel; /* 56 */
    tine_segment *const *segments; /* 64 */
    unsigned long segment_count; /* 72 */
    const tine_worker_options *worker; /* 80 */
    long start_timeout_ns; /* 88 */
    const char *worker_path; /* 96 */
    const char *const *worker_arguments; /* 104 */
    const char *preload; /* 112 */
    unsigned long heap_bytes; /* 120 */
} tine_process_options; /* 128 */
typedef struct tine_exit {
    unsigned long size; /* 0 */
    int code; /* 8 */
    int signal; /* 12 */
    int status; /* 16 */
    const char *message; /* 24 */
    const void *data; /* 32 */
    unsigned long length; /* 40 */
    const tine_death *death; /* 48 */
} tine_exit; /* 56 */
int tine_process_start(const tine_process_options *options, tine_fn fn, const void *input, unsigned long length,
    tine_process **out);
int tine_process_wait(tine_process *p, long timeout_ns, tine_exit *out);
int tine_process_kill(tine_process *p, int signal);
int tine_process_kill_tree(tine_process *p, int signal);
int tine_process_alive(const tine_process *p);
int tine_process_pid(const tine_process *p);
int tine_process_fd(const tine_process *p);
const char *tine_process_title(const tine_process *p);
void tine_process_close(tine_process *p);
