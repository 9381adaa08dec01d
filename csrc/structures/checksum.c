/* checksum.c - see checksum.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "checksum.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"

#define DIGESTS 7u

static const struct {
    const char *name; /* OpenSSL's; NULL: not its business */
    uint32_t bytes;
} known[DIGESTS] = {
    [CORE_DIGEST_CRC32C] = {NULL, 4},      [CORE_DIGEST_MD5] = {"MD5", 16},       [CORE_DIGEST_SHA1] = {"SHA1", 20},
    [CORE_DIGEST_SHA256] = {"SHA256", 32}, [CORE_DIGEST_SHA384] = {"SHA384", 48}, [CORE_DIGEST_SHA512] = {"SHA512", 64},
};

struct checksum_set {
    EVP_MD *algorithms[DIGESTS]; /* NULL: OpenSSL's, but not to be had here */
    EVP_MD_CTX *contexts[DIGESTS];
};

int checksum_set_new(struct checksum_set **out)
{
    struct checksum_set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < DIGESTS; i++) {
        if (known[i].name == NULL)
            continue;
        set->algorithms[i] = EVP_MD_fetch(NULL, known[i].name, NULL);
        set->contexts[i] = EVP_MD_CTX_new();
        if (set->contexts[i] == NULL) {
            checksum_set_free(set);
            return -ENOMEM;
        }
        /* What cannot begin now never will: FIPS rules, a provider that is not there. */
        if (set->algorithms[i] != NULL && EVP_DigestInit_ex2(set->contexts[i], set->algorithms[i], NULL) != 1) {
            EVP_MD_free(set->algorithms[i]);
            set->algorithms[i] = NULL;
        }
    }
    *out = set;
    return 0;
}

void checksum_set_free(struct checksum_set *set)
{
    if (set == NULL)
        return;
    for (uint32_t i = 0; i < DIGESTS; i++) {
        EVP_MD_CTX_free(set->contexts[i]);
        EVP_MD_free(set->algorithms[i]);
    }
    free(set);
}

bool checksum_is_known(const struct checksum_set *set, uint32_t digest)
{
    if (digest >= DIGESTS)
        return false;
    return known[digest].name == NULL || set->algorithms[digest] != NULL;
}

uint32_t checksum_bytes(uint32_t digest)
{
    return digest < DIGESTS ? known[digest].bytes : 0;
}

static void crc32c(const void *data, uint64_t length_bytes, uint8_t *out)
{
    uint32_t crc = digest_crc32c(0, data, length_bytes);
    for (uint32_t i = 0; i < 4; i++)
        out[i] = (uint8_t)(crc >> 8 * i);
}

void checksum_of(struct checksum_set *set, uint32_t digest, const void *data, uint64_t length_bytes, uint8_t *out)
{
    assert(digest != CORE_DIGEST_NONE && checksum_is_known(set, digest));
    if (digest == CORE_DIGEST_CRC32C) {
        crc32c(data, length_bytes, out);
        return;
    }
    EVP_MD_CTX *context = set->contexts[digest];
    unsigned int bytes = 0;
    int good = EVP_DigestInit_ex2(context, NULL, NULL) == 1 && EVP_DigestUpdate(context, data, length_bytes) == 1 &&
               EVP_DigestFinal_ex(context, out, &bytes) == 1;
    assert(good && bytes == known[digest].bytes); /* nothing can fail any more; a wrong digest must not travel */
    (void)good;
}

bool checksum_matches(struct checksum_set *set, uint32_t digest, const void *data, uint64_t length_bytes,
                      const uint8_t *expected)
{
    uint8_t own[CHECKSUM_BYTES_MAX];
    checksum_of(set, digest, data, length_bytes, own);
    return memcmp(own, expected, checksum_bytes(digest)) == 0;
}
