// SPDX-License-Identifier: Apache-2.0

// Package proxy tests Fairlead beside a real kube-proxy, in nftables mode: what
// it takes over from it, and what stays with it. There is no code here but tests.
package proxy
