// SPDX-License-Identifier: Apache-2.0

// Command etcd is the etcd server, without the client and the tools of its releases.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
