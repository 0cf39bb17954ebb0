package server

import (
	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

// PaymentOf is what the API says of a payment.
func PaymentOf(p payment.Payment) api.Payment { return viewPayment(&p) }
