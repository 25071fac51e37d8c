// SPDX-License-Identifier: Apache-2.0

// Package l2 answers ARP and neighbor solicitations for VIPs that sit on no
// interface, and tells the network when they come to this node. It is the end
// of road A.
//
// What to answer and to send is decided by a book, which has no clock and no
// socket. The Responder around it has one socket for ARP and one for NDP that
// see all interfaces, with filters that let only what concerns the VIPs
// through, and one that hears of changes of interfaces. Who answers for which
// VIP is the caller's decision, made with packages elect and members.
package l2
