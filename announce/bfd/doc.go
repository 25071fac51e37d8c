// SPDX-License-Identifier: Apache-2.0

// Package bfd watches the paths to routers (RFC 5880), at the end of road A: a
// router that does not answer is given up in milliseconds, where BGP takes
// seconds. It speaks the asynchronous mode over a single hop (RFC 5881) and over
// several (RFC 5883), without echo mode, demand mode of its own and
// authentication.
//
// Packet and Session are pure: what came in and when it is, in; what to send and
// when to look again, out. Server has the sockets and the clock.
package bfd
