/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: process pools, shared memory, queues and locks that settle whatever is killed.
 *
 *     #include <tine.hpp>
 *
 *     int main(int argc, char **argv)
 *     {
 *         tine::init(argc, argv);                     // first of all: workers start in this main(), too, and stay in here
 *         tine::pool pool;                            // a worker for each CPU
 *         auto sum = pool.submit([](int a, int b) { return a + b; }, 19, 23);
 *         return sum.get() == 42 ? 0 : 1;
 *     }
 *
 * It is a layer over tine.h, header only, for C++17 and later; what tine.h says of a call holds for what is made of it here.
 *
 * Conventions, for every call below:
 *
 *   Errors      A call that fails throws tine::error, or what is derived from it, and changes nothing. Where it has a form
 *               with std::nothrow as the first argument, that returns a tine::expected instead; docs/cpp.md lists these.
 *               Calls whose names begin with try_ return false or an empty optional for what is merely not possible
 *               now, and throw for the rest.
 *               With -fno-exceptions these are the way; a call that would throw writes its text and aborts.
 *   Timeouts    std::chrono durations, relative; tine::forever waits. In fields that end in _ns: tine::ns(5ms).
 *   Options     are tine.h's structs with their initialiser applied: tine::pool_options, submit_options, map_options,
 *               stream_options, queue_options, segment_options, channel_options, process_options.
 *   Ownership   Classes own what they have made and cannot be copied; what may go to workers says so.
 *   Threads     every call may be made from any thread unless its text says otherwise.
 *   Fork        a child of fork() may not use its parent's objects: calls give TINE_EFORKED.
 *
 * What is written here goes into each module that includes it; modules of one program should use the same version.
 */
#ifndef TINE_HPP
#define TINE_HPP

#include "tine/channel.hpp"
#include "tine/codec.hpp"
#include "tine/error.hpp"
#include "tine/function.hpp"
#include "tine/future.hpp"
#include "tine/locks.hpp"
#include "tine/map.hpp"
#include "tine/memory.hpp"
#include "tine/pool.hpp"
#include "tine/process.hpp"
#include "tine/queue.hpp"
#include "tine/segment.hpp"
#include "tine/stream.hpp"
#include "tine/submission.hpp"

#endif /* TINE_HPP */
