/* check.h - what every C test program needs: a check that says what was wrong, and a list of named tests.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A test is a function named for the behaviour that it shows; RUN prints that name when a check in it fails. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program at once: after a failed check the rest would only repeat it. */
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: in %s: %s is not so: ", __FILE__, __LINE__, __func__, #condition);                 \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_EQUAL(actual, expected)                                                                                  \
    do {                                                                                                               \
        int64_t actual_value = (int64_t)(actual);                                                                      \
        int64_t expected_value = (int64_t)(expected);                                                                  \
        if (actual_value != expected_value) {                                                                          \
            fprintf(stderr, "%s:%d: in %s: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, __func__, #actual,   \
                    (long long)actual_value, #expected, (long long)expected_value);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A repeatable random number: xorshift64, the state is the caller's and never 0. */
static inline uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint64_t draw_below(uint64_t *state, uint64_t limit)
{
    return draw(state) % limit;
}

#endif
