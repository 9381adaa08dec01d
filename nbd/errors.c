/* errors.c - the one place where an errno becomes an error on the wire.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The protocol knows eight errors, and two of them only in one situation each: ENOTSUP answers FAST_ZERO, EOVERFLOW a
 * READ with DF.  Elsewhere these two say that the request could not be done as it was: EINVAL.  Any other errno is an
 * EIO. */
#include "nbd_internal.h"

#include <errno.h>

enum nbd_error nbd_error_from_errno(int error, const struct nbd_request *request)
{
    switch (error) {
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return request->command == NBD_READ && (request->flags & NBD_FLAG_DF) != 0 ? NBD_EOVERFLOW : NBD_EINVAL;
    case EOPNOTSUPP:
        return (request->flags & NBD_FLAG_FAST_ZERO) != 0 ? NBD_ENOTSUP : NBD_EINVAL;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

const char *nbd_error_text(enum nbd_error error)
{
    switch (error) {
    case NBD_EPERM:
        return "not permitted";
    case NBD_EIO:
        return "input/output error";
    case NBD_ENOMEM:
        return "out of memory";
    case NBD_EINVAL:
        return "invalid request";
    case NBD_ENOSPC:
        return "no space";
    case NBD_EOVERFLOW:
        return "too large to answer in one piece";
    case NBD_ENOTSUP:
        return "not supported";
    case NBD_ESHUTDOWN:
        return "the server is shutting down";
    }
    return "error";
}
