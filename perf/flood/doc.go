// SPDX-License-Identifier: Apache-2.0

// Package flood holds the tests of the whole under attack: real agents in a
// lab, a flood of SYNs, and beside it people who want to be served.
package flood
