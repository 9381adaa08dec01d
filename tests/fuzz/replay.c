/* replay.c - feeds files to a fuzz target where there is no libFuzzer: the corpus as an ordinary test.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

enum { INPUT_BYTES_MAX = 1 << 20 };

/* The input is copied to a block of just its size, so that ASAN sees a read behind its end. */
static int replay(const char *path, uint8_t *buffer)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    const size_t length_bytes = fread(buffer, 1, INPUT_BYTES_MAX, file);
    const int failed = ferror(file);
    fclose(file);
    uint8_t *input = malloc(length_bytes != 0 ? length_bytes : 1);
    if (failed != 0 || input == NULL) {
        perror(path);
        free(input);
        return 1;
    }
    for (size_t i = 0; i < length_bytes; i++) {
        input[i] = buffer[i];
    }
    LLVMFuzzerTestOneInput(input, length_bytes);
    free(input);
    return 0;
}

int main(int argc, char **argv)
{
    uint8_t *buffer = malloc(INPUT_BYTES_MAX);
    int failures = argc < 2 || buffer == NULL;
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE...\n", argv[0]);
    }
    for (int i = 1; i < argc && buffer != NULL; i++) {
        failures += replay(argv[i], buffer);
    }
    free(buffer);
    return failures != 0;
}
