package iso8583_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/acquirer/iso8583"
)

// A link is opened once and shared. What its answer means is in the outcome,
// not in the error.
func ExampleOpen() {
	pem, err := os.ReadFile("/etc/tillbridge/acquirer-ca.pem")
	if err != nil {
		fmt.Println("no authority to pin")
		return
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	dialect, _ := iso8583.Named("ascii87")
	link, err := iso8583.Open(iso8583.Options{Addr: "host.example:7443", Dialect: dialect, Roots: roots, TerminalID: "TILL0001"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer link.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	result, err := link.Authorize(ctx, acquirer.Request{ /* stored as authorizing before this line */ })
	switch result.Outcome {
	case acquirer.Approved, acquirer.Declined:
		fmt.Println("final:", result.ResponseCode)
	case acquirer.NotSent:
		fmt.Println("nothing left the machine:", err)
	case acquirer.Unknown:
		fmt.Println("in doubt, settle it:", err)
	}
}
