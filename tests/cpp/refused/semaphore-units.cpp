// refused: a semaphore has from 1 to INT32_MAX units
#include <tine.hpp>

tine::counting_semaphore<0> refused(0);
