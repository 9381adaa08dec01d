/* nodelay.c - preloaded into qemu-storage-daemon: TCP_NODELAY on every socket that it accepts.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's NBD server sets it itself since 8.1.  Before, its replies wait for the client's delayed acknowledgements, and
 * the comparison would be with that mistake instead of with QEMU. */
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

int accept4(int listener, struct sockaddr *restrict address, socklen_t *restrict length, int flags)
{
    int (*real)(int, struct sockaddr *, socklen_t *, int);
    *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    int fd = real(listener, address, length, flags);
    int on = 1;
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on a UNIX socket: nothing to mend */
    }
    return fd;
}

int accept(int listener, struct sockaddr *restrict address, socklen_t *restrict length)
{
    return accept4(listener, address, length, 0);
}
