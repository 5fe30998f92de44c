# The monotonic clock, in seconds: what time.monotonic() reads, without a call of Python.

cdef extern from *:
    """
    #if defined(_WIN32)
      #include <windows.h>
      static double greenroom_monotonic(void) {
          LARGE_INTEGER f, c;
          QueryPerformanceFrequency(&f); QueryPerformanceCounter(&c);
          return (double)c.QuadPart / (double)f.QuadPart;
      }
    #else
      #include <time.h>
      #if defined(__APPLE__)
        #define GREENROOM_CLOCK CLOCK_UPTIME_RAW  /* what time.monotonic() reads there */
      #else
        #define GREENROOM_CLOCK CLOCK_MONOTONIC
      #endif
      static double greenroom_monotonic(void) {
          struct timespec t;
          clock_gettime(GREENROOM_CLOCK, &t);
          return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
      }
    #endif
    """
    double monotonic "greenroom_monotonic"() noexcept nogil
