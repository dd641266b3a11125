/* The version that the header states is the library's, and every code has a name and a sentence. */
#include <tine.h>
#include "check.h"
#include <errno.h>
#include <limits.h>

static void versions_agree(void)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", TINE_VERSION_MAJOR, TINE_VERSION_MINOR, TINE_VERSION_PATCH);
    CHECK_STR(text, TINE_VERSION);
    CHECK_STR(tine_version(), TINE_VERSION);
}

static void codes_have_names_and_sentences(void)
{
    CHECK_STR(tine_errname(0), "OK");
    CHECK_STR(tine_errname(17), "OK");
    CHECK_STR(tine_strerror(0), "success");
    CHECK_STR(tine_errname(-EINVAL), "EINVAL");
    CHECK_STR(tine_errname(-ENOMEM), "ENOMEM");
    CHECK_STR(tine_errname(-EOWNERDEAD), "EOWNERDEAD");
    CHECK_STR(tine_strerror(-ENOENT), strerror(ENOENT));
    /* The numbers are released: they are part of the ABI. */
    static const struct { int code; const char *name; } own[] = {
        {-5001, "TINE_ENOINIT"},  {-5002, "TINE_EWORKERSTART"}, {-5003, "TINE_EDIED"},  {-5004, "TINE_EBADCODE"},
        {-5005, "TINE_EITEMS"},   {-5006, "TINE_EFUNCTION"},    {-5007, "TINE_EMODULE"}, {-5008, "TINE_ENAME"},
        {-5009, "TINE_EID"},      {-5010, "TINE_ESHUTDOWN"},    {-5011, "TINE_EFORKED"}, {-5012, "TINE_EWORKER"},
        {-5013, "TINE_EEMPTY"},   {-5014, "TINE_EVERSION"},     {-5015, "TINE_EBROKEN"}, {-5016, "TINE_EMEMORY"},
        {-5017, "TINE_EPANIC"},   {-5018, "TINE_ELATE"},
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        CHECK_STR(tine_errname(own[i].code), own[i].name);
        CHECK(strlen(tine_strerror(own[i].code)) > 10);
        CHECK(strcmp(tine_strerror(own[i].code), tine_strerror(-9999)) != 0);
    }
}

static void unknown_codes_are_answered_too(void)
{
    static const int unknown[] = {-4095, -4096, -5000, -9999, INT_MIN};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        CHECK_STR(tine_errname(unknown[i]), "UNKNOWN");
        CHECK(strlen(tine_strerror(unknown[i])) > 0);
    }
    CHECK_STR(tine_errname(INT_MAX), "OK");
}

int main(void)
{
    versions_agree();
    codes_have_names_and_sentences();
    unknown_codes_are_answered_too();
    return 0;
}
