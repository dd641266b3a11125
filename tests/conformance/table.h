/* The language of the conformance suite's table, for the driver for C: the words of a call, what a case has made, and what a call says. */
#ifndef CONFORMANCE_TABLE_H
#define CONFORMANCE_TABLE_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tine.h>

enum { MOST = 64, WORDS = 16, ROOM = 4096 };

struct bytes { void *at; size_t length; };

/* One call of the table. */
static char *words[WORDS];
static int word_count;
static char result[ROOM];

/* How often a task's callback has been called, and with what. */
struct told { unsigned calls; tine_result task; };

/* What the case has made so far, by name. What has a handle is ended by `end`, at the latest with the case. */
static struct named {
    char name[32];
    void *address;
    tine_id task;
    struct told *told;
    void *handle;
    void (*end)(void *handle);
    size_t items;
} things[MOST];
static int thing_count;
static tine_pool *pool;

static int start;
static const char *library, *worker;

_Noreturn static void confused(const char *what, const char *word)
{
    fprintf(stderr, "conformance driver: %s: %s\n", what, word);
    exit(2);
}

/* ---- Words ---- */

static const char *argument(int at)
{
    if (at >= word_count)
        confused("an argument is missing after", words[0]);
    return words[at];
}

static const char *setting(const char *name)
{
    size_t length = strlen(name);
    for (int i = 1; i < word_count; i++)
        if (strncmp(words[i], name, length) == 0 && words[i][length] == '=')
            return words[i] + length + 1;
    return NULL;
}

static int64_t number(const char *text)
{
    char *end;
    int64_t value = strtoll(text, &end, 10);
    if (end == text || *end)
        confused("no number", text);
    return value;
}

static int64_t number_setting(const char *name, int64_t otherwise)
{
    const char *text = setting(name);
    return text ? number(text) : otherwise;
}

static int64_t ns_setting(const char *name, int64_t otherwise)
{
    const char *text = setting(name);
    return text ? number(text) * 1000000 : otherwise;
}

static struct named *thing(const char *name)
{
    for (int i = 0; i < thing_count; i++)
        if (strcmp(things[i].name, name) == 0)
            return &things[i];
    confused("nothing has the name", name);
}

static struct named *new_thing(const char *name)
{
    if (thing_count == MOST)
        confused("too many names", name);
    things[thing_count] = (struct named){.address = NULL};
    snprintf(things[thing_count].name, sizeof things[0].name, "%s", name);
    return &things[thing_count++];
}

static void *object(void)
{
    return thing(argument(1))->address;
}

static void *handle(void)
{
    struct named *what = thing(argument(1));
    if (!what->end)
        confused("it has been ended", argument(1));
    return what->handle;
}

static void keep(void *handle, void *address, void (*end)(void *handle))
{
    struct named *made = new_thing(argument(1));
    made->handle = handle;
    made->address = address;
    made->end = end;
}

static int end_thing(void)
{
    struct named *what = thing(argument(1));
    what->end(handle());
    what->end = NULL;
    return 0;
}

static struct bytes reserve(size_t length)
{
    struct bytes bytes = {malloc(length ? length : 1), length};
    if (!bytes.at)
        confused("out of memory", words[0]);
    return bytes;
}

static struct bytes parse(const char *word)
{
    struct bytes bytes;
    size_t count = 1;
    if (strcmp(word, "none") == 0)
        return (struct bytes){NULL, 0};
    if (strncmp(word, "text:", 5) == 0) {
        bytes = reserve(strlen(word + 5));
        return memcpy(bytes.at, word + 5, bytes.length), bytes;
    }
    if (strncmp(word, "bytes:", 6) == 0) {
        bytes = reserve((size_t)number(word + 6));
        for (size_t i = 0; i < bytes.length; i++)
            ((unsigned char *)bytes.at)[i] = (unsigned char)(i + i / 251);
        return bytes;
    }
    int wide = strncmp(word, "words:", 6) == 0;
    if (!wide && strncmp(word, "ints:", 5) != 0)
        confused("no bytes", word);
    for (const char *at = word; *at; at++)
        count += *at == ',';
    bytes = reserve(count * (wide ? 8 : 4));
    char *list = strdup(strchr(word, ':') + 1), *item = strtok(list, ",");
    for (size_t i = 0; item; i++, item = strtok(NULL, ",")) {
        int64_t value = *item == '@' ? (int64_t)(intptr_t)thing(item + 1)->address : number(item);
        if (wide)
            ((int64_t *)bytes.at)[i] = value;
        else
            ((int32_t *)bytes.at)[i] = (int32_t)value;
    }
    free(list);
    return bytes;
}

/* ---- Results ---- */

static void say(const char *format, ...)
{
    size_t at = strlen(result);
    va_list list;
    va_start(list, format);
    vsnprintf(result + at, sizeof result - at, format, list);
    va_end(list);
}

static void say_code(int code)
{
    say("%s", code >= 0 ? "OK" : tine_errname(code));
}

static void say_number(int64_t value)
{
    if (value < 0)
        say_code((int)value);
    else
        say("%" PRId64, value);
}

static void say_bytes(const void *at, size_t length)
{
    const unsigned char *bytes = at;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    int text = length <= 64;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
        text = text && bytes[i] >= 0x20 && bytes[i] <= 0x7e;
    }
    if (length == 0)
        say("none");
    else if (text)
        say("text:%.*s", (int)length, (const char *)at);
    else
        say("bytes:%zu:%016" PRIx64, length, hash);
}

static int shows(const char *what)
{
    for (int i = 1; i < word_count; i++)
        if (strncmp(words[i], "show=", 5) == 0 && strcmp(words[i] + 5, what) == 0)
            return 1;
    return 0;
}

#endif
