/* A straightforward reader of an archive file: one thread, one record after the other.
 *
 * read_loop(path, gamma, gap) fills the arrays, of room for every zero of the file, and returns
 * the number of zeros, or -1 if the file cannot be read. gamma = t0 + Z 2^-101 is rounded twice
 * here (the integer to a double, then the sum): simple, as one writes it. The last gap is NaN. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 u128;

long read_loop(const char *path, double *gamma, double *gap)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    unsigned char *raw = malloc(size);
    if (!raw || fread(raw, 1, size, file) != size) {
        free(raw);
        fclose(file);
        return -1;
    }
    fclose(file);

    const double unit = ldexp(1.0, -101);
    const unsigned char *p = raw;
    uint64_t blocks;
    memcpy(&blocks, p, 8);
    p += 8;
    long n = 0;
    double before = NAN;
    for (uint64_t b = 0; b < blocks; b++) {
        double t0;
        uint64_t count[2];
        memcpy(&t0, p, 8);
        memcpy(count, p + 16, 16);
        p += 32;
        u128 z = 0;
        for (uint64_t i = count[0]; i < count[1]; i++, n++, p += 13) {
            uint64_t lo;
            uint32_t mid;
            memcpy(&lo, p, 8);
            memcpy(&mid, p + 8, 4);
            u128 delta = (u128)p[12] << 96 | (u128)mid << 64 | lo;
            z += delta;
            gamma[n] = t0 + (double)z * unit;
            if (i > count[0])
                gap[n - 1] = (double)delta * unit;
            else if (n)
                gap[n - 1] = gamma[n] - before;
            before = gamma[n];
        }
    }
    if (n)
        gap[n - 1] = NAN;
    free(raw);
    return n;
}
