/* A pool without tine_init is refused at once: no second main ever runs by surprise. */
#include <tine.h>
#include "check.h"
#include <errno.h>

static int nothing(tine_task *task)
{
    (void)task;
    return 0;
}

int main(int argc, char **argv)
{
    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};
    tine_pool *pool = NULL;
    size_t i;

    /* The processes of the pool at the end come through here too, before their turn: they are refused likewise. */
    CHECK_RC(tine_pool_create(NULL, &pool), TINE_ENOINIT);
    for (i = 0; i < sizeof starts / sizeof *starts; i++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_error error = TINE_ERROR_INIT;
        options.start = starts[i];
        options.error = &error;
        CHECK_RC(tine_pool_create(&options, &pool), TINE_ENOINIT);
        CHECK_EQ(error.code, TINE_ENOINIT);
        CHECK(strstr(error.text, "tine_init") != NULL);
    }
    CHECK(pool == NULL);

    /* Nothing of that was for good: with tine_init it works, and what comes before tine_init still may. */
    CHECK_RC(tine_register("nothing", nothing), 0);
    CHECK_RC(tine_init(argc, argv), 0);
    CHECK_RC(tine_init(argc, argv), 0);
    CHECK_RC(tine_register("more", nothing), TINE_ELATE);
    CHECK_RC(tine_pool_create(NULL, &pool), 0);
    tine_pool_destroy(pool);
    return 0;
}
