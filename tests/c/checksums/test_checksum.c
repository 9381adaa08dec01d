/* test_checksum.c - the digests of verify-alg, csums-alg and data-integrity-alg against published values.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "checksum.h"

struct vector {
    uint32_t digest;
    const char *text;
    const char *expected;
};

/* RFC 3720 B.4 (as the kernel stores it, lowest byte first), RFC 1321 A.5, FIPS 180-4's examples. */
static const struct vector vectors[] = {
    {CORE_DIGEST_CRC32C, "123456789", "839206e3"},
    {CORE_DIGEST_CRC32C, "", "00000000"},
    {CORE_DIGEST_MD5, "", "d41d8cd98f00b204e9800998ecf8427e"},
    {CORE_DIGEST_MD5, "message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
    {CORE_DIGEST_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
    {CORE_DIGEST_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {CORE_DIGEST_SHA384, "abc",
     "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
    {CORE_DIGEST_SHA512, "abc",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e"
     "2a9ac94fa54ca49f"},
};

static struct checksum_set *set;
static uint64_t allocations; /* OpenSSL's */

static void *counted_malloc(size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    allocations++;
    return malloc(bytes);
}

static void *counted_realloc(void *old, size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    allocations++;
    return realloc(old, bytes);
}

static void counted_free(void *old, const char *file, int line)
{
    (void)file, (void)line;
    free(old);
}

static void check_vector(const struct vector *vector)
{
    uint8_t digest[CHECKSUM_BYTES_MAX];
    char text[2 * CHECKSUM_BYTES_MAX + 1] = "";
    uint32_t bytes = checksum_bytes(vector->digest);

    checksum_of(set, vector->digest, vector->text, strlen(vector->text), digest);
    for (uint32_t i = 0; i < bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    CHECK_EQUAL(strcmp(text, vector->expected), 0);
    CHECK_EQUAL(checksum_matches(set, vector->digest, vector->text, strlen(vector->text), digest), 1);
    digest[bytes - 1] ^= 1;
    CHECK_EQUAL(checksum_matches(set, vector->digest, vector->text, strlen(vector->text), digest), 0);
}

static void the_published_values_come_out_again_and_again(void)
{
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
            check_vector(&vectors[i]);
}

static void a_digest_costs_one_allocation_at_most_and_crc32c_none(void)
{
    static uint8_t block[4096];
    uint8_t digest[CHECKSUM_BYTES_MAX];

    CHECK(allocations > 0, "%s", "OpenSSL's allocations are not seen");
    for (uint32_t kind = CORE_DIGEST_CRC32C; kind <= CORE_DIGEST_SHA512; kind++) {
        uint64_t before = allocations;
        for (int round = 0; round < 100; round++)
            checksum_of(set, kind, block, sizeof block, digest);
        CHECK(allocations - before <= (kind == CORE_DIGEST_CRC32C ? 0 : 100), "%u", kind);
    }
}

static void what_is_no_digest_is_not_known(void)
{
    CHECK_EQUAL(checksum_bytes(CORE_DIGEST_NONE), 0);
    CHECK_EQUAL(checksum_bytes(7), 0);
    CHECK_EQUAL(checksum_is_known(set, 7), 0);
    CHECK_EQUAL(checksum_is_known(set, CORE_DIGEST_SHA512), 1);
}

int main(void)
{
    CHECK_EQUAL(CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free), 1);
    CHECK_EQUAL(checksum_set_new(&set), 0);
    the_published_values_come_out_again_and_again();
    a_digest_costs_one_allocation_at_most_and_crc32c_none();
    what_is_no_digest_is_not_known();
    checksum_set_free(set);
    return 0;
}
