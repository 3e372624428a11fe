package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Product is something that is sold.
type Product struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	Name     string `json:"name"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
	Created  int64  `json:"created"`
	Livemode bool   `json:"livemode"`
}

// ProductParams are the parameters of a product.
type ProductParams struct {
	Name     string
	Price    *int64
	Currency string
}

// CreateProduct adds a product to the catalogue.
func (s *Sandbox) CreateProduct(ctx context.Context, c *call.Call, in ProductParams) (*Product, error) {
	if err := testMode(c); err != nil {
		return nil, err
	}
	switch {
	case strings.TrimSpace(in.Name) == "" || utf8.RuneCountInString(in.Name) > maxText:
		return nil, fault.Param("name", "parameter_invalid", "Set the product's name, with at most %d characters.", maxText)
	case in.Price == nil || *in.Price < 1 || *in.Price > maxAmount:
		return nil, fault.Param("price", "parameter_invalid", "The price must be 1 to %d, in the currency's smallest unit.", int64(maxAmount))
	case !currencies[strings.ToLower(in.Currency)]:
		return nil, fault.Param("currency", "parameter_invalid", "The currency must be a three-letter code such as usd (ISO 4217).")
	}
	p := s.newProduct(in.Name, *in.Price, strings.ToLower(in.Currency))
	o, err := s.object(c.Space, kindProduct, p.ID, "", p)
	if err != nil {
		return nil, err
	}
	return p, s.write(ctx, c, p, []store.SandboxObject{o})
}

func (s *Sandbox) newProduct(name string, price int64, currency string) *Product {
	return &Product{ID: s.number(), Object: "product", Name: name, Price: price, Currency: currency, Created: s.now().Unix()}
}

// number returns an identifier of digits, for shoppers, products and orders.
func (s *Sandbox) number() string {
	return strconv.FormatUint(uint64(s.Events.IDs.Keys.Next()), 10)
}

// Product returns one product.
func (s *Sandbox) Product(ctx context.Context, c *call.Call, id string) (Product, error) {
	if err := testMode(c); err != nil {
		return Product{}, err
	}
	return load[Product](ctx, s, c.Space, kindProduct, id)
}

// ListProducts lists products, newest first.
func (s *Sandbox) ListProducts(ctx context.Context, c *call.Call, p call.Page) ([]Product, bool, error) {
	if err := testMode(c); err != nil {
		return nil, false, err
	}
	return list[Product](ctx, s, c.Space, kindProduct, "", p)
}

// Subscription is the subscription object.
type Subscription struct {
	ID       string     `json:"id"`
	Object   string     `json:"object"`
	Shopper  Shopper    `json:"shopper"`
	Product  ProductRef `json:"product"`
	Status   string     `json:"status"`
	Created  int64      `json:"created"`
	Livemode bool       `json:"livemode"`
}

// Shopper is the anonymous subscriber.
type Shopper struct {
	ID    string `json:"id"`
	Email string `json:"email,omitzero"`
}

// ProductRef names a product.
type ProductRef struct {
	ID string `json:"id"`
}

// Order is an order of a shopper.
type Order struct {
	ID           string     `json:"id"`
	Object       string     `json:"object"`
	Shopper      Shopper    `json:"shopper"`
	Product      ProductRef `json:"product"`
	Subscription string     `json:"subscription"`
	Amount       int64      `json:"amount"`
	Currency     string     `json:"currency"`
	Status       string     `json:"status"`
	Created      int64      `json:"created"`
	Livemode     bool       `json:"livemode"`
}

// SubscriptionParams are the parameters of a subscription.
type SubscriptionParams struct {
	ProductID string // empty: a product is created
	Email     string
}

// CreateSubscription subscribes an anonymous shopper to a product, creates an order of it, and
// sends the event subscription.created.
func (s *Sandbox) CreateSubscription(ctx context.Context, c *call.Call, in SubscriptionParams) (*Subscription, error) {
	if err := testMode(c); err != nil {
		return nil, err
	}
	shopper := Customer{Email: in.Email}
	if err := shopper.check(); err != nil {
		return nil, fault.Param("shopper[email]", "parameter_invalid", "This is not an e-mail address.")
	}
	var product *Product
	var objects []store.SandboxObject
	keep := func(kind, id, parent string, v any) error {
		o, err := s.object(c.Space, kind, id, parent, v)
		objects = append(objects, o)
		return err
	}
	if in.ProductID != "" {
		p, err := load[Product](ctx, s, c.Space, kindProduct, in.ProductID)
		if err != nil {
			return nil, call.CursorFault(err, "product_id", in.ProductID)
		}
		product = &p
	} else {
		product = s.newProduct("Sample subscription", 999, "usd")
	}
	if err := keep(kindProduct, product.ID, "", product); err != nil { // stored again, so that a product in use expires later
		return nil, err
	}
	now := s.now().Unix()
	sub := &Subscription{ID: s.id("sub_"), Object: "subscription", Shopper: Shopper{ID: s.number(), Email: in.Email}, Product: ProductRef{product.ID}, Status: "active", Created: now}
	order := &Order{ID: s.number(), Object: "order", Shopper: sub.Shopper, Product: sub.Product, Subscription: sub.ID,
		Amount: product.Price, Currency: product.Currency, Status: "complete", Created: now}
	if err := keep(kindSubscription, sub.ID, sub.Shopper.ID, sub); err != nil {
		return nil, err
	}
	if err := keep(kindOrder, order.ID, sub.Shopper.ID, order); err != nil {
		return nil, err
	}
	return sub, s.write(ctx, c, sub, objects, emission{"subscription.created", sub})
}

// Subscription returns one subscription.
func (s *Sandbox) Subscription(ctx context.Context, c *call.Call, id string) (Subscription, error) {
	if err := testMode(c); err != nil {
		return Subscription{}, err
	}
	return load[Subscription](ctx, s, c.Space, kindSubscription, id)
}

// ListSubscriptions lists subscriptions, newest first.
func (s *Sandbox) ListSubscriptions(ctx context.Context, c *call.Call, p call.Page) ([]Subscription, bool, error) {
	if err := testMode(c); err != nil {
		return nil, false, err
	}
	return list[Subscription](ctx, s, c.Space, kindSubscription, "", p)
}

// TokenLife is how long a shopper's token is valid.
const TokenLife = 15 * time.Minute

// shopperToken is the stored form of a token; its identifier is the token's hash.
type shopperToken struct {
	Shopper string      `json:"shopper"`
	Space   event.Space `json:"space"`
	Expires int64       `json:"expires"` // Unix seconds
}

// ShopperToken creates a token with which an anonymous shopper, identified by an event, can
// list their orders. Errors: fault.Invalid for "dr_userid", and those of idempotency.
func (s *Sandbox) ShopperToken(ctx context.Context, c *call.Call, shopper string) (token string, err error) {
	if err := testMode(c); err != nil {
		return "", err
	}
	if shopper == "" {
		return "", fault.Param("dr_userid", "parameter_missing", "Set the shopper's identifier, shopper.id of an event.")
	}
	if err := s.Events.Answered(ctx, c); err != nil {
		return "", err
	}
	orders, _, err := s.Store.ListSandbox(ctx, c.Space, kindOrder, shopper, store.Page[string]{Limit: 1})
	if err != nil {
		return "", err
	}
	if len(orders) == 0 {
		return "", fault.Param("dr_userid", "resource_missing", "No such shopper: '%s'.", shopper)
	}
	var b [24]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	token = "shpt_" + base64.RawURLEncoding.EncodeToString(b[:])
	o, err := s.object(store.AnySpace, kindToken, tokenID(token), shopper, shopperToken{shopper, c.Space, s.now().Add(TokenLife).Unix()})
	if err != nil {
		return "", err
	}
	if err := s.write(ctx, c, token, []store.SandboxObject{o}); err != nil {
		return "", err
	}
	return token, nil
}

func tokenID(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Visitor is an anonymous shopper with a valid token.
type Visitor struct {
	space   event.Space
	shopper string
}

// Space returns the account and mode of the visitor.
func (v *Visitor) Space() event.Space { return v.space }

// Admit returns the visitor with a token. Errors: fault.Unauthenticated.
func (s *Sandbox) Admit(ctx context.Context, token string) (*Visitor, error) {
	t, err := load[shopperToken](ctx, s, store.AnySpace, kindToken, tokenID(token))
	if fault.Is(err, fault.NotFound) || err == nil && s.now().Unix() >= t.Expires {
		return nil, &fault.Error{Code: fault.Unauthenticated, Reason: "token_invalid", Message: "This shopper's token is unknown or has expired."}
	}
	if err != nil {
		return nil, err
	}
	return &Visitor{t.Space, t.Shopper}, nil
}

// Orders lists the visitor's orders, newest first.
func (s *Sandbox) Orders(ctx context.Context, v *Visitor, p call.Page) ([]Order, bool, error) {
	return list[Order](ctx, s, v.space, kindOrder, v.shopper, p)
}

// VisitedProduct returns a product that the visitor bought; others are not found.
func (s *Sandbox) VisitedProduct(ctx context.Context, v *Visitor, id string) (Product, error) {
	for page := (store.Page[string]{Limit: call.MaxPage}); ; {
		objects, more, err := s.Store.ListSandbox(ctx, v.space, kindOrder, v.shopper, page)
		if err != nil {
			return Product{}, err
		}
		for i := range objects {
			o, err := decode[Order](&objects[i])
			if err != nil {
				return Product{}, err
			}
			if o.Product.ID == id {
				return load[Product](ctx, s, v.space, kindProduct, id)
			}
		}
		if !more {
			return Product{}, fault.Missing("product", id)
		}
		page.After = &objects[len(objects)-1].ID
	}
}
