// SPDX-License-Identifier: Apache-2.0

// Package announce decides what a node tells the network, at the end of road A.
// Select is one pure function of the cluster's state and the node: routes for
// each BGP peer, candidates for each address by ARP and NDP, and for what is not
// announced the exact reason. What it says is carried out by the packages below.
package announce
