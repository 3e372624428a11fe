package natsjs

import "time"

// SetAckWait sets the time after which an unacknowledged message is redelivered.
func (b *Broker) SetAckWait(d time.Duration) { b.ackWait = d }
