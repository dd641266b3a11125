// Boost.Interprocess's mutex, for locks.c.
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <new>

using boost::interprocess::interprocess_mutex;
static_assert(sizeof(interprocess_mutex) <= 256, "locks.c has room for 256 bytes");

extern "C" void boost_make(void *at) { new (at) interprocess_mutex; }
extern "C" void boost_lock(void *at) { static_cast<interprocess_mutex *>(at)->lock(); }
extern "C" void boost_unlock(void *at) { static_cast<interprocess_mutex *>(at)->unlock(); }
