// SPDX-License-Identifier: Apache-2.0

// Package status writes what the controller decided, and is the only one that
// does: status and conditions of Services, events, the status of pools, and the
// record of who has which address. It stands on road A.
//
// # Two controllers never give one address to two Services
//
// A lease elects one controller, but a lease does not stop the one before: it
// may be paused, or have a request on its way that arrives late. So the API
// server itself has to refuse it. It compares one object's resourceVersion with
// the one that a write is based on, and has nothing for two objects at once. The
// order of writes, and what each is based on, does the rest:
//
//  1. Claim. An AddressBlock records address, Service and the resourceVersion
//     that the Service has. A block is written whole and based on the version
//     that was read, so that of two controllers which change the same block one
//     is refused, reads it again and thinks again. In a block an address has
//     either one holder or several that may share it.
//  2. Show. The address is added to the Service's status with a write that is
//     based on exactly the resourceVersion in the claim.
//  3. Hide. The address is taken out of the status, if it is there.
//  4. Withdraw. The claim is taken out of the block, when the Service is gone, or
//     when its version is later than the claim's and does not show the address.
//     Where the claim was never used, the Service is written for that alone.
//
// So while a Service shows an address, the claim is there: it was there when the
// address was added, because who withdraws it has first seen a version of the
// Service that is later than the claim's and without the address, and with that
// the write of step 2 is refused for good. A claim's resourceVersion only ever
// grows, so a controller with an old view cannot bring a refused write back. It
// does not matter who holds the lease, nor how late requests arrive.
//
// Blocks are small (64 addresses, about 12 KB) and shared by few: for 10,000
// Services some 160 of them, written once for many Services when many come at
// once. A claim object per address would double the objects and the writes; one
// object per pool would be near etcd's limit of 1.5 MB, and written whole for
// every Service.
//
// What others write into the status of Services by hand is beyond the fence: of
// two Services that show one address, who has the claim keeps it.
package status
