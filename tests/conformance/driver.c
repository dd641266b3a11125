/* The conformance suite's driver for C: README.md says what it does. */
#include "table.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

/* ---- Pools ---- */

/* For what callbacks have been told. */
static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_changed = PTHREAD_COND_INITIALIZER;

static int pool_create(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = (size_t)number_setting("workers", 0);
    options.window_tasks = (size_t)number_setting("window_tasks", 0);
    options.window_bytes = (size_t)number_setting("window_bytes", 0);
    options.heap_bytes = (size_t)number_setting("heap_bytes", 0);
    options.grace_ns = ns_setting("grace_ms", 0);
    options.deadline_ns = ns_setting("deadline_ms", 0);
    options.start = start;
    options.worker_path = worker;
    options.preload = start == TINE_START_FORK ? NULL : library;
    return tine_pool_create(&options, &pool);
}

/* On a thread of tine's. What it is given is the pool's again when it returns. */
static void on_settled(const tine_result *task, void *user)
{
    struct told *told = user;
    pthread_mutex_lock(&told_lock);
    told->calls++;
    told->task = *task;
    told->task.message = strcpy(reserve(strlen(task->message) + 1).at, task->message);
    if (task->length)
        told->task.data = memcpy(reserve(task->length).at, task->data, task->length);
    if (task->death)
        told->task.death = memcpy(reserve(sizeof *task->death).at, task->death, sizeof *task->death);
    pthread_cond_broadcast(&told_changed);
    pthread_mutex_unlock(&told_lock);
}

static int pool_submit(void)
{
    struct bytes input = parse(argument(3));
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id = 0;
    if (number_setting("callback", 0)) {
        options.on_settled = on_settled;
        options.user = memset(reserve(sizeof(struct told)).at, 0, sizeof(struct told));
    }
    options.name = argument(2);
    options.deadline_ns = ns_setting("deadline_ms", 0);
    options.queue_deadline_ns = ns_setting("queue_deadline_ms", 0);
    options.timeout_ns = ns_setting("timeout_ms", 0);
    options.retries = (uint32_t)number_setting("retries", 0);
    options.flags = number_setting("idempotent", 0) ? TINE_IDEMPOTENT : 0;
    int rc = tine_submit(pool, NULL, input.at, input.length, &options, &id);
    if (rc == 0) {
        struct named *made = new_thing(argument(1));
        made->task = id;
        made->told = options.user;
    } else {
        free(options.user);
    }
    free(input.at);
    return rc;
}

static void say_ending(int signal, int code)
{
    say(signal ? " signal %d" : " exit %d", signal ? signal : code);
}

static void say_result(const tine_result *task)
{
    static const char *const deliveries[] = {"ran", "not_started", "maybe_ran"};
    if (task->status >= 0) {
        say("%d ", task->status);
        say_bytes(task->data, task->length);
    } else {
        say("%s %s", tine_errname(task->status), deliveries[task->delivery]);
        if (task->death)
            say_ending(task->death->signal, task->death->code);
        if (shows("message"))
            say(" %s", task->message);
    }
    if (shows("deaths"))
        say(" deaths %u", task->deaths);
}

static void pool_wait(void)
{
    tine_result task = TINE_RESULT_INIT;
    int rc = tine_wait(pool, thing(argument(1))->task, ns_setting("timeout_ms", TINE_FOREVER), &task);
    if (rc) {
        say_code(rc);
        return;
    }
    say_result(&task);
    tine_result_release(pool, &task);
}

static void pool_told(int64_t timeout_ns)
{
    struct told *told = thing(argument(1))->told;
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ns / 1000000000;
    until.tv_nsec += timeout_ns % 1000000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&told_lock);
    while (!told->calls && rc == 0)
        rc = timeout_ns == TINE_FOREVER ? pthread_cond_wait(&told_changed, &told_lock)
             : timeout_ns == 0          ? EAGAIN
                                        : pthread_cond_timedwait(&told_changed, &told_lock, &until);
    pthread_mutex_unlock(&told_lock);
    if (rc)
        say_code(-rc);
    else
        say_result(&told->task);
}

struct failures { size_t count; int *codes; char (*messages)[256]; };

static void on_failure(const tine_result *task, size_t item, void *user)
{
    struct failures *failures = user;
    failures->count++;
    failures->codes[item] = task->status;
    snprintf(failures->messages[item], sizeof failures->messages[item], "%s", task->message);
}

static void pool_map(void)
{
    size_t count = (size_t)number(argument(3));
    struct bytes in = reserve(count * 4), out = reserve(count * 4), codes = reserve(count * sizeof(int)),
                 messages = reserve(count * 256), context = parse(setting("context") ? setting("context") : "none");
    struct failures failures = {0, memset(codes.at, 0, codes.length), messages.at};
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    int64_t total = 0;
    for (size_t i = 0; i < count; i++)
        ((int32_t *)in.at)[i] = (int32_t)(number(argument(2)) + (int64_t)i);
    memset(out.at, 0, out.length);
    options.name = argument(1);
    options.context = context.at;
    options.context_length = context.length;
    options.chunk = (size_t)number_setting("chunk", 0);
    options.item_deadline_ns = ns_setting("item_deadline_ms", 0);
    options.retries = (uint32_t)number_setting("retries", 0);
    options.flags = number_setting("idempotent", 0) ? TINE_IDEMPOTENT : 0;
    options.on_failure = on_failure;
    options.user = &failures;
    int rc = tine_map(pool, NULL, in.at, 4, out.at, 4, count, &options);
    say_code(rc);
    for (size_t i = 0; i < count; i++)
        total += ((int32_t *)out.at)[i];
    say(" sum %" PRId64, total);
    for (size_t i = 0; i < count; i++)
        if (failures.codes[i]) {
            say(" %zu:%s", i, tine_errname(failures.codes[i]));
            if (shows("message"))
                say(":%s", failures.messages[i]);
        }
    free(in.at), free(out.at), free(codes.at), free(messages.at), free(context.at);
}

/* ---- Streams ---- */

static void destroy_stream(void *stream)
{
    tine_stream_destroy(stream);
}

static int stream_create(void)
{
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_stream *stream;
    options.name = argument(2);
    options.window_tasks = (size_t)number_setting("window_tasks", 0);
    options.item_deadline_ns = ns_setting("item_deadline_ms", 0);
    options.retries = (uint32_t)number_setting("retries", 0);
    options.flags = number_setting("idempotent", 0) ? TINE_IDEMPOTENT : 0;
    int rc = tine_stream_create(pool, NULL, &options, &stream);
    if (rc == 0)
        keep(stream, NULL, destroy_stream);
    return rc;
}

static int stream_put(int64_t timeout_ns)
{
    struct bytes item = parse(argument(2));
    size_t *items = &thing(argument(1))->items;
    int rc = tine_stream_put(handle(), item.at, item.length, (void *)(uintptr_t)*items, timeout_ns);
    *items += rc == 0;
    free(item.at);
    return rc;
}

static void stream_next(int64_t timeout_ns)
{
    tine_result item = TINE_RESULT_INIT;
    int rc = tine_stream_next(handle(), timeout_ns, &item);
    if (rc) {
        say_code(rc);
        return;
    }
    say("%zu: ", (size_t)(uintptr_t)item.user);
    say_result(&item);
    tine_result_release(pool, &item);
}

/* ---- Processes ---- */

static void close_process(void *process)
{
    tine_process_close(process);
}

static int process_start(void)
{
    struct bytes input = parse(argument(3));
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_segment *segment = setting("segment") ? thing(setting("segment"))->handle : NULL;
    tine_process *process;
    options.name = argument(2);
    options.start = start;
    options.worker_path = worker;
    options.preload = start == TINE_START_FORK ? NULL : library;
    options.deadline_ns = ns_setting("deadline_ms", 0);
    options.grace_ns = ns_setting("grace_ms", 0);
    options.channel = setting("channel") ? thing(setting("channel"))->address : NULL;
    options.segments = &segment;
    options.segment_count = segment != NULL;
    int rc = tine_process_start(&options, NULL, input.at, input.length, &process);
    if (rc == 0)
        keep(process, NULL, close_process);
    free(input.at);
    return rc;
}

static void process_wait(int64_t timeout_ns)
{
    tine_exit end = TINE_EXIT_INIT;
    int rc = tine_process_wait(handle(), timeout_ns, &end);
    if (rc) {
        say_code(rc);
        return;
    }
    if (end.status >= 0) {
        say("%d ", end.status);
        say_bytes(end.data, end.length);
    } else {
        say("%s", tine_errname(end.status));
    }
    say_ending(end.signal, end.code);
    if (shows("message"))
        say(" %s", end.message);
}

/* ---- Memory ---- */

static int heap_alloc(void)
{
    void *block = tine_calloc(pool, 1, (size_t)number(argument(2)));
    if (!block)
        return -ENOMEM;
    new_thing(argument(1))->address = block;
    return 0;
}

static int heap_fill(void)
{
    struct bytes bytes = parse(argument(2));
    memcpy(object(), bytes.at, bytes.length);
    free(bytes.at);
    return 0;
}

static int64_t heap_used(void)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    int rc = tine_heap_stats(tine_pool_heap(pool), &info);
    return rc ? rc : (int64_t)info.used_blocks;
}

static void close_segment(void *segment)
{
    if (tine_segment_close(segment))
        confused("still in use", words[0]);
}

/* A new one, or another one's memory once more. */
static int segment_create(size_t size, const tine_segment *other)
{
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    tine_segment *segment;
    options.flags = other ? TINE_SEGMENT_ANY_ADDRESS : 0;
    int rc = other ? tine_segment_attach(tine_segment_fd(other), &options, &segment) : tine_segment_create(size, &options, &segment);
    if (rc == 0)
        keep(segment, tine_segment_address(segment), close_segment);
    return rc;
}

/* ---- Locks and queues ---- */

static void *make(size_t size)
{
    void *lock = tine_calloc(pool, 1, size);
    if (!lock)
        confused("no memory for", argument(1));
    return new_thing(argument(1))->address = lock;
}

static int initializer(void *user)
{
    *(int *)user = 1;
    return 0;
}

static void once_call(int64_t timeout_ns)
{
    int ran = 0, rc = tine_once_call(object(), initializer, &ran, timeout_ns);
    say("%s", rc ? tine_errname(rc) : ran ? "ran" : "done");
}

static int queue_create(void)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *queue;
    options.capacity_messages = (size_t)number_setting("messages", 0);
    options.capacity_bytes = (size_t)number_setting("bytes", 0);
    int rc = tine_queue_create(pool, &options, &queue);
    if (rc == 0)
        new_thing(argument(1))->address = queue;
    return rc;
}

static int queue_put(int64_t timeout_ns)
{
    struct bytes bytes = parse(argument(2));
    int rc = tine_queue_put(object(), bytes.at, bytes.length, timeout_ns);
    free(bytes.at);
    return rc;
}

static void queue_get(int64_t timeout_ns)
{
    struct bytes buffer = reserve((size_t)number_setting("capacity", 4096));
    size_t length;
    int rc = tine_queue_get(object(), timeout_ns, buffer.at, buffer.length, &length);
    if (rc)
        say_code(rc);
    else
        say_bytes(buffer.at, length);
    free(buffer.at);
}

static int channel_create(void)
{
    tine_channel *here, *there;
    int rc = tine_channel_create(NULL, &here, &there);
    if (rc == 0) {
        new_thing(argument(1))->address = here;
        new_thing(argument(2))->address = there;
    }
    return rc;
}

static int channel_send(int64_t timeout_ns)
{
    struct bytes bytes = parse(argument(2));
    int rc = tine_channel_send(object(), bytes.at, bytes.length, timeout_ns);
    free(bytes.at);
    return rc;
}

static void channel_receive(int64_t timeout_ns)
{
    struct bytes buffer = reserve(8 << 20);
    size_t length;
    int rc = tine_channel_receive(object(), timeout_ns, buffer.at, buffer.length, &length);
    if (rc)
        say_code(rc);
    else
        say_bytes(buffer.at, length);
    free(buffer.at);
}

static int channel_commit(int64_t timeout_ns)
{
    struct bytes bytes = parse(argument(2));
    void *place;
    int rc = tine_channel_reserve(object(), bytes.length, timeout_ns, &place);
    if (rc == 0) {
        memcpy(place, bytes.at, bytes.length);
        rc = tine_channel_commit(object(), bytes.length, timeout_ns);
        if (rc && rc != -EPIPE) tine_channel_abandon(object());
    }
    free(bytes.at);
    return rc;
}

static void channel_peek(int64_t timeout_ns)
{
    void *place;
    size_t length;
    int rc = tine_channel_peek(object(), timeout_ns, &place, &length);
    if (rc) {
        say_code(rc);
        return;
    }
    say_bytes(place, length);
    tine_channel_release(object());
}

static int channel_close(void)
{
    tine_channel_close(object());
    return 0;
}

/* ---- One call after the other ---- */

static void perform(const char *operation)
{
    int64_t timeout_ns = ns_setting("timeout_ms", TINE_FOREVER);
#define CODE(name, call) if (strcmp(operation, name) == 0) say_code(call); else
#define NUMBER(name, call) if (strcmp(operation, name) == 0) say_number(call); else
#define SAYS(name, call) if (strcmp(operation, name) == 0) call; else
    CODE("pool.create", pool_create())
    CODE("pool.shutdown", tine_pool_shutdown(pool, timeout_ns))
    CODE("pool.submit", pool_submit())
    SAYS("pool.wait", pool_wait())
    SAYS("pool.told", pool_told(timeout_ns))
    CODE("pool.cancel", tine_cancel(pool, thing(argument(1))->task))
    SAYS("pool.map", pool_map())
    CODE("heap.alloc", heap_alloc())
    CODE("heap.free", tine_heap_free(tine_pool_heap(pool), object()))
    CODE("heap.fill", heap_fill())
    SAYS("heap.show", say_bytes(object(), (size_t)number(argument(2))))
    NUMBER("heap.used", heap_used())
    CODE("mutex.create", tine_mutex_init(make(sizeof(tine_mutex)),
                                         number_setting("process_owned", 0) ? TINE_PROCESS_OWNED : 0))
    CODE("mutex.lock", tine_mutex_lock(object(), timeout_ns))
    CODE("mutex.unlock", tine_mutex_unlock(object()))
    CODE("mutex.repair", tine_mutex_repair(object()))
    CODE("rwlock.create", tine_rwlock_init(make(sizeof(tine_rwlock)), 0))
    CODE("rwlock.read_lock", tine_rwlock_read_lock(object(), timeout_ns))
    CODE("rwlock.write_lock", tine_rwlock_write_lock(object(), timeout_ns))
    CODE("rwlock.unlock", tine_rwlock_unlock(object()))
    CODE("rwlock.repair", tine_rwlock_repair(object()))
    CODE("semaphore.create", tine_semaphore_init(make(sizeof(tine_semaphore)), (uint32_t)number(argument(2)),
                                                 (uint32_t)number_setting("max", 0), 0))
    CODE("semaphore.acquire", tine_semaphore_acquire(object(), timeout_ns))
    CODE("semaphore.release", tine_semaphore_release(object(), (uint32_t)number(argument(2))))
    NUMBER("semaphore.value", tine_semaphore_value(object()))
    CODE("event.create", tine_event_init(make(sizeof(tine_event)),
                                         number_setting("auto_reset", 0) ? TINE_AUTO_RESET : 0))
    CODE("event.wait", tine_event_wait(object(), timeout_ns))
    CODE("event.set", tine_event_set(object()))
    CODE("event.clear", tine_event_clear(object()))
    SAYS("event.is_set", say("%s", tine_event_is_set(object()) ? "yes" : "no"))
    CODE("barrier.create", tine_barrier_init(make(sizeof(tine_barrier)), (uint32_t)number(argument(2)), 0))
    CODE("barrier.wait", tine_barrier_wait(object(), timeout_ns))
    CODE("barrier.reset", tine_barrier_reset(object()))
    CODE("barrier.abort", tine_barrier_abort(object()))
    CODE("condition.create", tine_condition_init(make(sizeof(tine_condition)), 0))
    CODE("condition.wait", tine_condition_wait(object(), thing(argument(2))->address, timeout_ns))
    CODE("once.create", make(sizeof(tine_once)) ? 0 : -ENOMEM)
    SAYS("once.call", once_call(timeout_ns))
    CODE("queue.create", queue_create())
    CODE("queue.put", queue_put(timeout_ns))
    SAYS("queue.get", queue_get(timeout_ns))
    CODE("queue.close", tine_queue_close(object()))
    CODE("queue.task_done", tine_queue_task_done(object()))
    CODE("queue.join", tine_queue_join(object(), timeout_ns))
    NUMBER("queue.count", (int64_t)tine_queue_count(object()))
    CODE("stream.create", stream_create())
    CODE("stream.put", stream_put(timeout_ns))
    CODE("stream.end", tine_stream_end(handle()))
    SAYS("stream.next", stream_next(timeout_ns))
    CODE("process.start", process_start())
    SAYS("process.wait", process_wait(timeout_ns))
    CODE("process.kill", tine_process_kill(handle(), (int)number(argument(2))))
    SAYS("process.alive", say("%s", tine_process_alive(handle()) == 1 ? "yes" : "no"))
    CODE("process.close", end_thing())
    CODE("segment.create", segment_create((size_t)number(argument(2)), NULL))
    CODE("segment.attach", segment_create(0, thing(argument(2))->handle))
    NUMBER("segment.size", (int64_t)tine_segment_size(handle()))
    CODE("segment.fill", heap_fill())
    SAYS("segment.show", say_bytes(object(), (size_t)number(argument(2))))
    CODE("segment.close", end_thing())
    CODE("pool.share", tine_pool_share(pool, handle(), timeout_ns))
    CODE("channel.create", channel_create())
    CODE("channel.send", channel_send(timeout_ns))
    SAYS("channel.receive", channel_receive(timeout_ns))
    CODE("channel.commit", channel_commit(timeout_ns))
    SAYS("channel.peek", channel_peek(timeout_ns))
    CODE("channel.close", channel_close())
    confused("no such operation", operation);
}

static void end_case(void)
{
    for (int i = thing_count; i-- > 0;)
        if (things[i].end)
            things[i].end(things[i].handle);
    tine_pool_destroy(pool);
    pool = NULL;
    for (; thing_count > 0; thing_count--) {
        struct told *told = things[thing_count - 1].told;
        if (told && told->calls != 1)
            confused(told->calls ? "told more than once" : "never told", things[thing_count - 1].name);
        if (told)
            free((void *)told->task.message), free((void *)told->task.data), free((void *)told->task.death);
        free(told);
    }
}

int main(int argc, char **argv)
{
    static const char *const starts[] = {"forkserver", "spawn", "fork"};
    char line[ROOM], call[ROOM], current[ROOM] = "";
    if (argc > 2 && strcmp(argv[1], "fork") == 0 && !dlopen(argv[2], RTLD_NOW)) /* its names, before tine_init */
        confused("not loaded", dlerror());
    tine_init(argc, argv);
    if (argc < 3)
        confused("usage", "driver START LIBRARY [WORKER] <cases.tsv");
    while (start < 3 && strcmp(argv[1], starts[start]) != 0)
        start++;
    if (start == 3)
        confused("no start method", argv[1]);
    library = argv[2];
    worker = argv[3]; /* or the NULL at the end */

    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!line[0] || line[0] == '#')
            continue;
        char *end = strrchr(line, '\t'), *operation = strchr(line, '\t');
        if (!end || end == operation)
            confused("no four columns", line);
        *end = 0;
        strcpy(call, line);
        *operation++ = 0;
        if (strcmp(current, line) != 0)
            end_case();
        memcpy(current, line, strlen(line) + 1);
        word_count = 0;
        for (char *word = strtok(operation, "\t "); word && word_count < WORDS; word = strtok(NULL, " "))
            words[word_count++] = word;
        result[0] = 0;
        perform(words[0]);
        printf("%s\t%s\n", call, result);
        fflush(stdout); /* before a pool can be forked with it */
    }
    end_case();
    return 0;
}
