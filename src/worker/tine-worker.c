/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The ready-made worker: for hosts whose main() isn't theirs to put tine_init in, plugins and interpreters say.
 * They name it in tine_pool_options.worker_path; pkg-config --variable=worker tine tells where it is.
 */
#include <stdio.h>
#include <tine.h>

int main(int argc, char **argv)
{
    int rc = tine_init(argc, argv); /* a worker stays in here */
    if (rc < 0)
        fprintf(stderr, "tine-worker: %s\n", tine_strerror(rc));
    fputs("tine-worker is started by a pool: see .worker_path of tine_pool_options in tine.h\n", stderr);
    return 2;
}
