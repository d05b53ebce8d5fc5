/* A clock that stands, entropy that is known and a process whose number is: for
 * an emulator of user programs, which is run with this loaded before its
 * libraries. Programs that it runs then make the same bytes each time, though
 * nothing in them could be told to. See tests/tests/targets.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at)
{
    if (clock == CLOCK_REALTIME) {
        at->tv_sec = 1796000000;
        at->tv_nsec = 123456789;
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, at);
}

pid_t getpid(void)
{
    return 4242;
}

/* splitmix64 of the length and of how often it was asked for: other requests in
 * between, of the standard library's, change nothing. */
static long fill(unsigned char *out, size_t length)
{
    static _Atomic uint64_t asked[8192];
    uint64_t number = atomic_fetch_add(&asked[length % 8192], 1);
    uint64_t state = length * 0x2545f4914f6cdd1dull + number * 0x9e3779b97f4a7c15ull;
    for (size_t index = 0; index < length; index++) {
        uint64_t mixed = state += 0x9e3779b97f4a7c15ull;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebull;
        out[index] = (unsigned char)(mixed ^ (mixed >> 31));
    }
    return (long)length;
}

/* The emulator asks for entropy by number. */
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (int index = 0; index < 6; index++)
        arguments[index] = va_arg(list, long);
    va_end(list);
    if (number == SYS_getrandom)
        return fill((unsigned char *)arguments[0], (size_t)arguments[1]);
    if (real == NULL)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}
