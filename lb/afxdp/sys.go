// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setsockopt and getsockopt are for XDP options whose value is a struct. A
// kernel that knows less of a struct returns a shorter one: the rest stays zero.

func setsockopt[T any](fd, option int, value *T) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(unsafe.Pointer(value)), unsafe.Sizeof(*value), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func getsockopt[T any](fd, option int, value *T) error {
	length := uint32(unsafe.Sizeof(*value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// The wakeups are bare system calls without data: x/sys' own would allocate
// room for an address.

// wakeTX has the kernel look at the TX ring, and in copy mode send what is on it.
func wakeTX(fd int) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// wakeRX has the kernel look at the fill ring, and poll the device when the
// socket may busy-poll.
func wakeRX(fd int) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}
