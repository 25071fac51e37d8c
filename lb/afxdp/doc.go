// SPDX-License-Identifier: Apache-2.0

// Package afxdp carries frames between devices and Go over AF_XDP sockets: the
// transport of the userspace datapath, road C without the big XDP program. It
// knows frames and queues, not what is in them.
//
//	device queue ─ XDP program ─ XSKMAP ─▸ RX ring ─ Loop ─▸ Handler
//	                                                            │ Tx.Send(port, frame)
//	device queue ◂─ TX ring of this or another socket ◂─────────┘
//
// # Sockets
//
// A Socket is bound to one queue of one device and has a UMEM of its own. Part
// of the UMEM's frames circulate fill ring → kernel → RX ring → Handler → fill
// ring, the others free → TX ring → kernel → completion ring → free. What is
// sent is always built in, or copied to, a TX frame. Every ring has an entry
// for each of its frames, so that rings never overflow: what can run out is
// frames. A received one that finds none is dropped by the kernel
// (Stats.RXDropped).
//
// Memory: (RXFrames + TXFrames) × FrameSize, plus 24 bytes of rings a frame;
// 8 MiB and 96 KiB with the defaults. It is locked: a process without
// CAP_IPC_LOCK needs the RLIMIT_MEMLOCK for it.
//
// A frame of 2048 bytes receives 1792, one of 4096 receives 3840; longer frames
// are dropped and counted. Frames of several buffers (XDP_USE_SG) are not supported.
//
// How the XDP program is attached decides where frames come from: natively from
// the driver, else (skb mode) from the stack, always with copies. How the socket
// is bound decides whether the driver works on the UMEM itself. veth has no
// zero-copy: ZeroCopy fails there with EOPNOTSUPP, and Auto means Copy.
//
// Copy mode sends within the system call, by the driver's transmit function and
// so past queueing disciplines and TC egress programs; a program at the other
// end of a veth pair sees the frames at its TC ingress as usual. What the device
// drops there is counted (Stats.Refused). Checksums are sent as they are.
// Received frames from a veth may have partial ones, which are the Handler's to complete.
//
// A queue stays busy for tens of milliseconds after its socket was closed, on a
// loaded machine for more than a second, and as long as frames that the socket
// sent are queued somewhere. Open waits for it (Config.Patience).
//
// # Loops, ports and queues
//
// A Loop is one goroutine on one thread. It serves the sockets that it is
// given, and nothing that it touches meanwhile is shared with another loop:
// there is no lock on a frame's way, and no allocation. For that, each loop has
// its own socket for each device that it sends to. As the kernel admits one
// socket to a queue, a device needs a queue for each loop:
//
//	         uplink        stack (veth, two queues)
//	loop 0   queue 0       queue 0
//	loop 1   queue 1       queue 1
//
// A Port names the device for all of them, so that one Handler's decision "to
// the stack" is right in every loop. A veth gets its queues when it is made. Where
// a device has fewer queues than another, run fewer loops and give each several
// queues of the larger device: a port may have several sockets in a loop.
// Frames that have to stay in order must come in by one queue, as RSS sees to.
//
// A batch is handled frame by frame, then sent, then recycled. A Handler that
// finds a port without TX frames waits, up to half a millisecond, while the
// kernel is asked to send; then the frame is dropped and counted
// (Stats.NoFrame), and so are the next, without waiting, until the device gives
// a frame back. So a device that is down does not hold up the others.
//
// An idle loop sleeps in poll, or with BusyPoll spins and drives the device
// itself; then the loop wants a core of its own.
package afxdp
