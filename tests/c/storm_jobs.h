/* The tasks of the kill storm: what each is told, and what a worker makes of it. */
#ifndef STORM_JOBS_H
#define STORM_JOBS_H

#include "family.h"

enum kind { NOTHING_OUT, SMALL_OUT, LARGE_OUT, FAILING, KINDS };

/* What every task is told; some have bytes behind it. */
struct job {
    uint32_t number, work_us, kind, length;
    uint64_t sum;
    struct tally *tally;
};

/* In the pool's heap: what workers leave word of. */
struct tally {
    uint32_t *executions;
};

static inline uint64_t sum_bytes(const unsigned char *bytes, size_t length)
{
    uint64_t sum = 1469598103934665603u;
    for (size_t i = 0; i < length; i++) {
        sum = (sum ^ bytes[i]) * 1099511628211u;
    }
    return sum;
}

static inline void fill(unsigned char *bytes, size_t length, uint32_t number)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (unsigned char)(number * 31 + i * 7 + (i >> 8));
    }
}

static inline size_t large_length(uint32_t number)
{
    return 65 + number * 977 % 60000;
}

/* ---- The worker's side ---- */

static inline void work(const struct job *job, struct tally *tally)
{
    int64_t began = clock_ns();
    __atomic_fetch_add(&tally->executions[job->number], 1, __ATOMIC_SEQ_CST);
    while (clock_ns() - began < (int64_t)job->work_us * 1000) {
    }
}

static inline int run_job(tine_task *task)
{
    size_t length;
    const struct job *job = (const struct job *)tine_input(task, &length);
    if (length != sizeof *job + job->length) {
        return -EPROTO;
    }
    /* A kill may come in the middle of the allocator, too; what it has handed out to others must stay theirs. */
    size_t block_length = 16 + job->number * 37 % 5000;
    unsigned char *block = job->number % 3 ? NULL : (unsigned char *)tine_alloc(tine_task_pool(task), block_length);
    if (block) {
        fill(block, block_length, job->number);
    }
    work(job, job->tally);
    if (block) {
        for (size_t i = 0; i < block_length; i++) {
            if (block[i] != (unsigned char)(job->number * 31 + i * 7 + (i >> 8))) {
                return -EUCLEAN;
            }
        }
        tine_free(tine_task_pool(task), block);
    }
    /* The bytes are looked at after the work: they must not change under it. */
    if (sum_bytes((const unsigned char *)(job + 1), job->length) != job->sum) {
        return -EBADMSG;
    }
    if (job->kind == FAILING) {
        return tine_fail(task, -EDOM, "job %u fails", job->number);
    }
    if (job->kind != NOTHING_OUT) {
        size_t out_length = job->kind == SMALL_OUT ? 5 + job->number % 60 : large_length(job->number);
        unsigned char *out = (unsigned char *)tine_output(task, out_length);
        if (!out) {
            return -ENOMEM;
        }
        fill(out, out_length, job->number);
    }
    return (int)(job->number % 1000);
}

struct map_out {
    uint64_t number, sum;
};

static inline int run_item(tine_task *task, const void *in, void *out)
{
    struct job job;
    struct map_out *result = (struct map_out *)out;
    (void)task;
    memcpy(&job, in, sizeof job);
    work(&job, job.tally);
    result->number = job.number;
    result->sum = job.sum + 1;
    return job.kind == FAILING ? -EDOM : (int)(job.number % 10);
}

#endif
