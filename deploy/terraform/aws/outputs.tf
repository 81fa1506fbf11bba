output "host_addresses" {
  description = "The hosts' addresses, by side."
  value       = local.address
}

output "host_instance_ids" {
  description = "The hosts' instances, by side."
  value       = { for side, instance in aws_instance.host : side => instance.id }
}

output "guest_addresses" {
  description = "The addresses that move, by guest."
  value       = var.guest_addresses
}

output "guest_kinds" {
  description = "What kinds of guest Xen can run on these instances."
  value       = local.nested ? ["PVH", "PV"] : ["PV"]
}

output "status_command" {
  description = "How to see how the pair is."
  value       = "ssh admin@${local.address["a"]} sudo understudy status"
}

output "check_command" {
  description = "How to see what a host lacks, by side."
  value       = { for side, address in local.address : side => "ssh admin@${address} 'sudo boot-xen status; sudo understudy check'" }
}

output "aws_routes" {
  description = "What /etc/understudy/aws-routes says on both hosts: see deploy/hooks/aws-route."
  value       = join("", [for route in values(local.routes) : "${route.guest} ${route.table} ${var.guest_addresses[route.guest]}/32\n"])
}

output "move_address_commands" {
  description = "What moves each guest's address to a host, by side: one command for each route table and guest."
  value = {
    for side, interface in aws_network_interface.host : side => [
      for route in values(local.routes) :
      "aws ec2 replace-route --route-table-id ${route.table} --destination-cidr-block ${var.guest_addresses[route.guest]}/32 --network-interface-id ${interface.id}"
    ]
  }
}
