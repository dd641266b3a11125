/* A linked list built in the host and walked in workers: pointers in the pool's heap mean the same in every process, so
 * nothing is copied and nothing is packed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <tine.h>

struct word {
    struct word *next;
    char *text; /* a block of its own */
};

/* Runs in a worker. The input is a pointer; the output is one as well: the longest word, where the host has it. */
static int longest(tine_task *task)
{
    struct word *const *first = tine_input(task, NULL);
    struct word **found = tine_output(task, sizeof *found);
    if (!found)
        return -ENOMEM;
    *found = *first;
    for (struct word *word = *first; word; word = word->next)
        if (strlen(word->text) > strlen((*found)->text))
            *found = word;
    /* It is the host's memory, and may be written. */
    (*found)->text[0] -= 'a' - 'A';
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const words[] = {"segment", "heap", "supervisor", "worker", "task"};
    tine_init(argc, argv);
    tine_pool *pool;
    int rc = tine_pool_create(NULL, &pool);
    if (rc) {
        fprintf(stderr, "linked-list: %s\n", tine_strerror(rc));
        return 1;
    }
    struct word *first = NULL;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct word *word = tine_alloc(pool, sizeof *word);
        char *text = tine_alloc(pool, strlen(words[i]) + 1);
        if (!word || !text) {
            fprintf(stderr, "linked-list: %s\n", tine_strerror(-ENOMEM));
            return 1;
        }
        word->text = strcpy(text, words[i]);
        word->next = first;
        first = word;
    }
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    rc = tine_submit(pool, longest, &first, sizeof first, NULL, &id);
    if (rc == 0)
        rc = tine_wait(pool, id, TINE_FOREVER, &result);
    if (rc == 0)
        rc = result.status;
    if (rc) {
        fprintf(stderr, "linked-list: %s\n", tine_strerror(rc));
        return 1;
    }
    struct word *found = *(struct word *const *)result.data;
    printf("a worker found %s\n", found->text);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
    return 0;
}
