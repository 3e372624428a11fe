package httpapi_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

func ids(list []object) []string {
	out := make([]string, len(list))
	for i, o := range list {
		out[i] = o.text("id")
	}
	return out
}

// The pages of every list, forwards and backwards, add up to the whole list.
func TestLists_pages(t *testing.T) {
	w := newWorld(t)
	var last object
	for i := range 7 {
		w.register(fmt.Sprintf("a%d", i))
		last = w.send("x.y")
		w.must("POST", "/v1/accounts", `{}`, with(adminKey)...)
		w.must("POST", "/v1/api_keys", `{}`, w.asOperator()...)
	}
	for range 7 {
		w.register("x.y")
	}
	w.must("POST", "/v1/events/"+last.text("id")+"/resend", "")
	for _, c := range []struct {
		path   string
		header []string
		total  int
	}{
		{"/v1/webhooks", nil, 14},
		{"/v1/events", nil, 7},
		{"/v1/events/" + last.text("id") + "/deliveries", nil, 7},
		{"/v1/deliveries", nil, 7},
		{"/v1/accounts", with(adminKey), 9},
		{"/v1/api_keys", w.asOperator(), 10},
	} {
		t.Run(c.path, func(t *testing.T) {
			all := w.must("GET", c.path+"?limit=100", "", c.header...)
			want := ids(all.list())
			if len(want) != c.total || all["has_more"] != false || all.text("url") != c.path || all.text("object") != "list" {
				t.Fatalf("%d items, want %d: %v", len(want), c.total, all)
			}
			if n := len(w.must("GET", c.path, "", c.header...).list()); n != min(10, c.total) {
				t.Errorf("%d items by default", n)
			}
			var forth []string
			for query := "?limit=3"; ; {
				page := w.must("GET", c.path+query, "", c.header...)
				forth = append(forth, ids(page.list())...)
				if page["has_more"] != (len(forth) < c.total) {
					t.Errorf("has_more = %v after %d of %d", page["has_more"], len(forth), c.total)
				}
				if page["has_more"] != true || len(forth) > c.total {
					break
				}
				query = "?limit=3&starting_after=" + forth[len(forth)-1]
			}
			if !slices.Equal(forth, want) {
				t.Errorf("forwards %v\nwant %v", forth, want)
			}
			back := []string{want[len(want)-1]}
			for len(back) < c.total {
				page := ids(w.must("GET", c.path+"?limit=3&ending_before="+back[0], "", c.header...).list())
				if len(page) == 0 {
					break
				}
				back = append(page, back...)
			}
			if !slices.Equal(back, want) {
				t.Errorf("backwards %v\nwant %v", back, want)
			}
		})
	}
}

func TestLists_eventFilters(t *testing.T) {
	w := newWorld(t)
	at := start.Unix()
	var sent []string
	for _, typ := range []string{"payment.succeeded", "payment.failed", "refund.created"} {
		sent = append(sent, w.send(typ).text("id"))
		w.pass(10 * time.Second)
	}
	w.send("payment.succeeded", with(liveKey)...)
	w.send("payment.succeeded", with(otherKey)...)
	for _, c := range []struct {
		query string
		want  []int
	}{
		{"", []int{2, 1, 0}},
		{"type=payment.failed", []int{1}},
		{"type=payment.*", []int{1, 0}},
		{"type=*", []int{2, 1, 0}},
		{"type=order.placed", nil},
		{fmt.Sprintf("created=%d", at+10), []int{1}},
		{fmt.Sprintf("created[gte]=%d", at+10), []int{2, 1}},
		{fmt.Sprintf("created[gt]=%d", at+10), []int{2}},
		{fmt.Sprintf("created[lte]=%d", at+10), []int{1, 0}},
		{fmt.Sprintf("created[lt]=%d", at+10), []int{0}},
		{fmt.Sprintf("created%%5Bgt%%5D=%d&created%%5Blt%%5D=%d", at, at+20), []int{1}},
		{fmt.Sprintf("created[gt]=%d&type=payment.*", at), []int{1}},
		{"created[lt]=0", nil},
		{"created[gte]=0", []int{2, 1, 0}},
		{"created[gt]=9000000000", nil},
		{"created[gte]=253402300799", nil},
		{"created[lt]=253402300799", []int{2, 1, 0}},
		{fmt.Sprintf("created[gt]=%d&created[lt]=%d", at+20, at), nil},
	} {
		t.Run(c.query, func(t *testing.T) {
			var want []string
			for _, i := range c.want {
				want = append(want, sent[i])
			}
			if got := ids(w.must("GET", "/v1/events?"+c.query, "").list()); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// Stripe's filters of events.
func TestLists_eventsAsStripeNarrows(t *testing.T) {
	w := newWorld(t)
	w.register("payment.*")
	done, failed, waiting, undelivered := w.send("payment.succeeded").text("id"), w.send("payment.failed").text("id"), w.send("payment.succeeded").text("id"), w.send("refund.created").text("id")
	w.attempted(w.deliveryOf(done).text("id"), delivery.Attempt{Started: start, Outcome: delivery.OutcomeSucceeded, StatusCode: 200})
	w.attempted(w.deliveryOf(failed).text("id"), delivery.Attempt{Started: start, Outcome: delivery.OutcomeGone, StatusCode: 410})
	for query, want := range map[string][]string{
		"delivery_success=true":                                           {undelivered, done},
		"delivery_success=false":                                          {waiting, failed},
		"types[]=payment.failed&types[]=refund.created":                   {undelivered, failed},
		"types[]=payment.succeeded":                                       {waiting, done},
		"types[]=payment.succeeded&delivery_success=true":                 {done},
		"types[]=nothing.like_it":                                         nil,
		"type=payment.*&delivery_success=false&limit=1":                   {waiting},
		"type=payment.*&delivery_success=false&starting_after=" + waiting: {failed},
	} {
		if got := ids(w.must("GET", "/v1/events?"+query, "").list()); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestLists_deliveryFilters(t *testing.T) {
	w := newWorld(t)
	all, refunds := w.register("*"), w.register("refund.*")
	payment := w.send("payment.succeeded")
	first := w.deliveryOf(payment.text("id"))
	w.must("POST", "/v1/deliveries/"+first.text("id")+"/cancel", "")
	w.pass(time.Minute)
	refund := w.send("refund.created")
	both := ids(w.must("GET", "/v1/events/"+refund.text("id")+"/deliveries", "").list())
	w.send("refund.created", with(liveKey)...)
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"", append(slices.Clone(both), first.text("id"))},
		{"event=" + payment.text("id"), []string{first.text("id")}},
		{"endpoint=" + refunds.text("id"), both[:1]},
		{"endpoint=" + all.text("id"), []string{both[1], first.text("id")}},
		{"endpoint=" + all.text("id") + "&event=" + refund.text("id"), both[1:]},
		{"status=canceled", []string{first.text("id")}},
		{"status=pending", both},
		{"status=failed", nil},
		{"status=succeeded", nil},
		{"type=payment.*", []string{first.text("id")}},
		{"type=payment.*&status=pending", nil},
		{fmt.Sprintf("created[gt]=%d", start.Unix()), both},
		{fmt.Sprintf("created[lte]=%d", start.Unix()), []string{first.text("id")}},
	} {
		t.Run(c.query, func(t *testing.T) {
			if got := ids(w.must("GET", "/v1/deliveries?"+c.query, "").list()); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Deliveries are found by the response, and events by their deliveries and their contents.
func TestLists_byResponseAndText(t *testing.T) {
	w := newWorld(t)
	w.register("payment.*")
	ids := map[int]string{}
	for _, status := range []int{404, 500, 503} {
		id := w.must("POST", "/v1/events", fmt.Sprintf(`{"type":"payment.failed","data":{"object":{"name":"text of %d"}}}`, status)).text("id")
		ids[status] = id
		w.attempted(w.deliveryOf(id).text("id"), delivery.Attempt{Started: w.now(), Outcome: delivery.OutcomeServerError, StatusCode: status})
	}
	waiting := w.send("payment.failed").text("id")
	found := func(path, field string) (all []string) {
		for _, o := range w.must("GET", path, "").list() {
			all = append(all, o.text(field))
		}
		return all
	}
	for path, want := range map[string][]string{
		"?response_status=503":             {ids[503]},
		"?response_status=5xx":             {ids[503], ids[500]},
		"?response_status=4XX":             {ids[404]},
		"?response_status=2xx":             nil,
		"?response_status=5xx&type=refund": nil,
		"?type=payment.*":                  {waiting, ids[503], ids[500], ids[404]},
	} {
		if got := found("/v1/deliveries"+path, "event"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for path, want := range map[string][]string{
		"?text=text+of+5":                {ids[503], ids[500]},
		"?text=nowhere":                  nil,
		"?status=succeeded":              nil,
		"?status=pending&text=text+of+4": {ids[404]},
	} {
		if got := found("/v1/events"+path, "id"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for _, bad := range []string{"5x", "99", "600", "6xx", "500x", "xx", "abc"} {
		w.call("GET", "/v1/deliveries?response_status="+bad, "").check(invalid("parameter_invalid", "response_status"))
	}
	w.call("GET", "/v1/events?status=lost", "").check(invalid("parameter_invalid", "status"))
}
